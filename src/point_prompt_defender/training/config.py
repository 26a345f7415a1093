"""Settings of a training run: typed, checked, unknown keys refused. Presets are TOML files beside this one."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from ..errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PRESETS = Path(__file__).parent / "presets"
Corruption = Literal["clean", "flip", "misplaced", "jitter", "added", "attacked"]
_CORRUPTIONS: dict[Corruption, float] = {
    "clean": 0.12, "flip": 0.40, "misplaced": 0.14, "jitter": 0.08, "added": 0.10, "attacked": 0.16,
}  # fmt: skip


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class GameConfig(_Strict):
    """The games that agents learn from."""

    paper: bool = Field(False, description="graph of the paper: raw Euclidean distances, no diffusion")
    usual_points: int = Field(8, ge=1, description="positives, and as many negatives, of a usual point set")
    usual_share: float = Field(0.65, ge=0, le=1, description="share of games with the usual number of points")
    fewest_points: int = Field(3, ge=1, description="fewest points of a label in the other games")
    most_points: int = Field(12, ge=1, le=14, description="most points of a label in the other games")
    spaced_share: float = Field(0.6, ge=0, le=1, description="share of ideal prompts at fixed spacing, else random")
    candidates: int = Field(32, ge=4, multiple_of=4, description="inactive candidates of the attacker")
    attack_moves: int = Field(4, ge=1, description="candidates that an attacker activates")
    attack_branches: int = Field(8, ge=1, description="candidates decoded in each state of an attack game")
    defence_moves: int = Field(8, ge=1, description="most removals in a training game")
    corruptions: dict[Corruption, float] = Field(
        default_factory=lambda: dict(_CORRUPTIONS),
        description="how often each corruption occurs",
    )

    @model_validator(mode="after")
    def _sums_to_one(self) -> GameConfig:
        if abs(sum(self.corruptions.values()) - 1) > 1e-6 or min(self.corruptions.values()) < 0:
            raise ValueError("corruptions must be shares that add up to 1")
        return self

    @model_validator(mode="after")
    def _is_playable(self) -> GameConfig:
        if self.fewest_points > self.most_points:
            raise ValueError("fewest_points must not be more than most_points")
        if self.attack_moves > self.candidates:
            raise ValueError("attack_moves must not be more than candidates")
        return self


class NetworkConfig(_Strict):
    """The Q-networks."""

    width: int = Field(64, ge=8, description="channels a node")
    heads: int = Field(4, ge=1, description="attention heads")
    layers: int = Field(3, ge=1, description="attention layers")
    dropout: float = Field(0.1, ge=0, lt=1, description="share of each block's output dropped while learning")
    graph: bool = Field(True, description="attention over the graph; false: an MLP a node")

    @model_validator(mode="after")
    def _divides(self) -> NetworkConfig:
        if self.width % self.heads:
            raise ValueError("width must be a multiple of heads")
        return self


class LearningConfig(_Strict):
    """Deep Q-learning."""

    gamma: float = Field(0.6, ge=0, le=1, description="discount")
    learning_rate: float = Field(1e-3, gt=0, description="of AdamW, decayed to a tenth along a cosine")
    weight_decay: float = Field(1e-2, ge=0, description="of AdamW")
    batch: int = Field(64, ge=1, description="states an update")
    target_sync: int = Field(200, ge=1, description="updates between copies into the target network")
    targets: int = Field(4, ge=1, description="tried actions bootstrapped a state and update")
    wrong_weight: float = Field(0.05, ge=0, description="weight of the auxiliary loss: which labels are wrong")
    rank_weight: float = Field(0.0, ge=0, description="weight of the loss on the order of actions")
    removal_cost: float = Field(0.005, ge=0, description="Dice that a removal must earn")
    budget_shares: tuple[float, float, float] = Field(
        (0.25, 0.40, 0.35), description="how often a state is seen with no, its own, leave-one-out feedback"
    )
    replay: int = Field(30_000, ge=1, description="states kept")
    double: bool = Field(True, description="double DQN")

    @model_validator(mode="after")
    def _sums_to_one(self) -> LearningConfig:
        if abs(sum(self.budget_shares) - 1) > 1e-6 or min(self.budget_shares) < 0:
            raise ValueError("budget_shares must be shares that add up to 1")
        return self


class TrainingConfig(_Strict):
    """One training run."""

    name: str = Field(description="what the agents will be called")
    seed: int = Field(0, ge=0, description="seed of everything")
    segmenter: str = Field("mobile-sam", description="which segmenter plays along")
    precision: Literal["float32", "bfloat16"] = Field("bfloat16", description="of the decoder during training")
    validation: float = Field(0.15, gt=0, lt=1, description="share of images kept for validation")
    validation_games: int = Field(60, ge=1, description="validation games")
    objects_per_image: int = Field(6, ge=1, description="most objects of one image")
    images: int | None = Field(None, ge=1, description="most training images; none: all")
    merge: tuple[str, ...] = Field((), description="data folders whose masks are class maps: all values one object")
    rounds: int = Field(10, ge=0, description="rounds of playing and learning")
    attack_games: int = Field(50, ge=0, description="attack games a round")
    attack_rounds: int = Field(3, ge=0, description="rounds in which the attacker plays and learns")
    defence_games: int = Field(150, ge=1, description="defence games a round")
    attack_updates: int = Field(200, ge=0, description="attacker updates a round")
    defence_updates: int = Field(400, ge=0, description="defender updates a round")
    final_updates: int = Field(2000, ge=0, description="defender updates after the last round")
    epsilon: tuple[float, float] = Field((1.0, 0.1), description="exploration, first and last round, linear between")
    league: int = Field(3, ge=1, description="past attackers that the defender meets")
    game: GameConfig = Field(default_factory=GameConfig)
    network: NetworkConfig = Field(default_factory=NetworkConfig)
    learning: LearningConfig = Field(default_factory=LearningConfig)

    @model_validator(mode="after")
    def _is_runnable(self) -> TrainingConfig:
        if not all(0 <= epsilon <= 1 for epsilon in self.epsilon):
            raise ValueError("epsilon must be two shares between 0 and 1")
        if not self.rounds and not self.final_updates:
            raise ValueError("rounds and final_updates must not both be 0")
        if self.final_updates and not self.defence_updates:
            raise ValueError("final_updates are done defence_updates at a time, which must then not be 0")
        return self


def load_config(name: str | os.PathLike[str], **changes: object) -> TrainingConfig:
    """A preset by name ("default", "paper"), or a TOML file by path.

    Args:
        name: of a preset or a file.
        changes: top-level settings to replace.

    Raises:
        ConfigError: no such preset or file, or an unknown or unfit setting; the sentence names it.
    """
    return parse_config({**read_settings(name), **changes}, Path(name).name)


def read_settings(name: str | os.PathLike[str]) -> dict[str, Any]:
    """The settings that a preset or a TOML file gives, not yet checked.

    Raises:
        ConfigError: no such preset or file, or no TOML.
    """
    path = Path(name).expanduser()
    if path.suffix != ".toml":
        path = PRESETS / f"{name}.toml"
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path.name} is not valid TOML ({error}); correct it.") from None
    except OSError:
        known = ", ".join(presets())
        near = difflib.get_close_matches(str(name), presets(), n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ConfigError(
            f"There is no preset or file {str(name)!r}{hint}; give one of {known}, or the path of a .toml file."
        ) from None


def presets() -> list[str]:
    """Names of the presets that come with the package."""
    return sorted(path.stem for path in PRESETS.glob("*.toml"))


def parse_config(content: dict[str, Any], source: str) -> TrainingConfig:
    """Check settings that were read from somewhere.

    Args:
        content: settings, groups as dicts.
        source: where they come from, for the error.

    Raises:
        ConfigError: an unknown or unfit setting.
    """
    try:
        return TrainingConfig.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"] if part != "[key]")
        if first["type"] == "extra_forbidden":
            what = f"{key} is no setting{_hint(key)}; `ppd train --list-settings` shows them all"
        elif first["type"] == "missing":
            what = f"{key} is missing; add it"
        else:
            reason = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
            what = f"{reason}; change it" if first["type"] == "value_error" else f"{key} {reason}; change it"
        raise ConfigError(f"In {source}, {what}.") from None


def setting_names(model: type[BaseModel] = TrainingConfig, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every setting's name, groups joined by dots ("learning.gamma"), with its pydantic field."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from setting_names(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name, field


def _hint(key: str) -> str:
    """The setting that was probably meant, by its whole name or, where the group is wrong, by its last part."""
    names = [name for name, _ in setting_names()]
    by_last = {name.rpartition(".")[2]: name for name in reversed(names)}
    near = difflib.get_close_matches(key, names, n=1, cutoff=0.75)
    if not near:
        near = [by_last[last] for last in difflib.get_close_matches(key.rpartition(".")[2], by_last, n=1, cutoff=0.75)]
    return f" (did you mean {near[0]}?)" if near else ""
