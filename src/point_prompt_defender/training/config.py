"""Settings of a training run: typed, checked, unknown keys refused. Presets are TOML files beside this one."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PRESETS = Path(__file__).parent / "presets"
Corruption = Literal["clean", "flip", "misplaced", "jitter", "added", "attacked"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


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
        default_factory=lambda: {
            "clean": 0.12, "flip": 0.40, "misplaced": 0.14, "jitter": 0.08, "added": 0.10, "attacked": 0.16,
        },  # fmt: skip
        description="how often each corruption occurs",
    )

    @model_validator(mode="after")
    def _sums_to_one(self) -> GameConfig:
        if abs(sum(self.corruptions.values()) - 1) > 1e-6 or min(self.corruptions.values()) < 0:
            raise ValueError("corruptions must be shares that add up to 1")
        return self


class NetworkConfig(_Strict):
    """The Q-networks."""

    width: int = Field(64, ge=8, description="channels a node")
    heads: int = Field(4, ge=1, description="attention heads")
    layers: int = Field(3, ge=1, description="attention layers")
    graph: bool = Field(True, description="attention over the graph; false: an MLP a node")


class LearningConfig(_Strict):
    """Deep Q-learning."""

    gamma: float = Field(0.98, ge=0, le=1, description="discount")
    learning_rate: float = Field(1e-3, gt=0, description="of AdamW, decayed to a tenth along a cosine")
    weight_decay: float = Field(1e-3, ge=0, description="of AdamW")
    batch: int = Field(64, ge=1, description="states an update")
    target_sync: int = Field(200, ge=1, description="updates between copies into the target network")
    targets: int = Field(4, ge=1, description="tried actions bootstrapped a state and update")
    wrong_weight: float = Field(0.05, ge=0, description="weight of the auxiliary loss: which labels are wrong")
    rank_weight: float = Field(0.0, ge=0, description="weight of the loss on the order of actions")
    removal_cost: float = Field(0.003, ge=0, description="Dice that a removal must earn")
    budget_shares: tuple[float, float, float] = Field(
        (0.25, 0.40, 0.35), description="how often a state is seen with no, its own, leave-one-out feedback"
    )
    replay: int = Field(30_000, ge=1, description="states kept")
    double: bool = Field(True, description="double DQN")


class TrainingConfig(_Strict):
    """One training run."""

    name: str = Field(description="what the agents will be called")
    seed: int = Field(0, description="seed of everything")
    segmenter: str = Field("mobile-sam", description="which segmenter plays along")
    precision: Literal["float32", "bfloat16"] = Field("bfloat16", description="of the decoder during training")
    validation: float = Field(0.15, gt=0, lt=1, description="share of images kept for validation")
    validation_games: int = Field(60, ge=1, description="validation games")
    objects_per_image: int = Field(6, ge=1, description="most objects of one image")
    images: int | None = Field(None, ge=1, description="most training images; none: all")
    merge: tuple[str, ...] = Field((), description="data folders whose masks are class maps: all values one object")
    rounds: int = Field(20, ge=1, description="rounds of playing and learning")
    attack_games: int = Field(60, ge=0, description="attack games a round")
    attack_rounds: int = Field(6, ge=0, description="rounds in which the attacker plays and learns")
    defence_games: int = Field(160, ge=1, description="defence games a round")
    attack_updates: int = Field(300, ge=0, description="attacker updates a round")
    defence_updates: int = Field(500, ge=0, description="defender updates a round")
    final_updates: int = Field(4000, ge=0, description="defender updates after the last round")
    epsilon: tuple[float, float] = Field((1.0, 0.15), description="exploration, first and last round, linear between")
    league: int = Field(3, ge=1, description="past attackers that the defender meets")
    game: GameConfig = Field(default_factory=GameConfig)
    network: NetworkConfig = Field(default_factory=NetworkConfig)
    learning: LearningConfig = Field(default_factory=LearningConfig)


def load_config(name: str | os.PathLike[str], **changes: object) -> TrainingConfig:
    """A preset by name ("default", "paper"), or a TOML file by path.

    Args:
        name: of a preset or a file.
        changes: top-level settings to replace.

    Raises:
        ConfigError: no such preset or file, or an unknown or unfit setting; the sentence names it.
    """
    path = Path(name)
    if path.suffix != ".toml":
        path = PRESETS / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in PRESETS.glob("*.toml")))
        raise ConfigError(f"There is no preset or file {str(name)!r}; give one of {known}, or the path of a .toml file.")
    try:
        content = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path.name} is not valid TOML: {error}.") from None
    return parse_config({**content, **changes}, path.name)


def parse_config(content: dict[str, object], source: str) -> TrainingConfig:
    """Check settings that were read from somewhere.

    Raises:
        ConfigError: an unknown or unfit setting.
    """
    try:
        return TrainingConfig.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "the file"
        what = "is no setting" if first["type"] == "extra_forbidden" else f"is wrong: {first['msg']}"
        raise ConfigError(f"In {source}, {key} {what}; `ppd train --help` lists the settings.") from None
