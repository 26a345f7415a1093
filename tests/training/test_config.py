from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from point_prompt_defender.errors import ConfigError
from point_prompt_defender.training.config import TrainingConfig, load_config, parse_config, presets, setting_names
from point_prompt_defender.training.settings import command_line, config_of, describe, values


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_presets_load(preset: str) -> None:
    assert load_config(preset).name == preset
    assert preset in presets()


def test_the_paper_preset_has_what_the_paper_publishes() -> None:
    paper = load_config("paper")
    learning = paper.learning
    assert paper.game.paper and paper.images == 1000
    assert paper.rounds * (paper.attack_games + paper.defence_games) == 1000
    assert (learning.learning_rate, learning.weight_decay, learning.batch, learning.target_sync) == (1e-4, 0, 128, 100)
    assert paper.epsilon == (1.0, 0.1)


def test_every_setting_is_described_and_listed() -> None:
    listed = describe()
    for name, field in setting_names():
        assert field.description, name
        assert f"{name} = " in listed and field.description in listed
    assert f"learning.gamma = {load_config('default').learning.gamma} (paper: 0.99)" in listed


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("learning.gama=0.9", r"learning.gama is no setting \(did you mean learning.gamma\?\)"),
        ("gamma=0.9", r"gamma is no setting \(did you mean learning.gamma\?\)"),
        ("learnig.gamma=0.9", r"learnig is no setting|did you mean learning"),
        ("frobnicate=1", "frobnicate is no setting"),
        ("rounds.more=1", "rounds should be a valid integer"),
        ("name.more=1", "name.more is no setting"),
        ("rounds", "write name=value"),
        ("=3", "write name=value"),
        ("rounds=3.5", "rounds should be a valid integer"),
        ("rounds=many", "rounds should be a valid integer"),
        ("rounds=-1", "rounds should be greater than or equal to 0"),
        ("jobs=2", "jobs is no setting"),
        ("seed=-1", "seed should be greater than or equal to 0"),
        ("learning.gamma=1.1", "learning.gamma should be less than or equal to 1"),
        ("learning.gamma=nan", "learning.gamma should be a finite number"),
        ("precision=float16", "precision should be 'float32' or 'bfloat16'"),
        ("game.candidates=6", "game.candidates should be a multiple of 4"),
        ("game.attack_moves=40", "attack_moves must not be more than candidates"),
        ("game.fewest_points=13", "fewest_points must not be more than most_points"),
        ("game.corruptions.flip=0.9", "corruptions must be shares that add up to 1"),
        ("game.corruptions={flop=1.0}", "game.corruptions.flop should be 'clean'"),
        ("learning.budget_shares=[1, 1, 0]", "budget_shares must be shares that add up to 1"),
        ("network.heads=5", "width must be a multiple of heads"),
        ("epsilon=[1, 2]", "epsilon must be two shares"),
        ("defence_updates=0", "final_updates are done defence_updates at a time"),
    ],
)
def test_a_wrong_setting_is_named_in_one_sentence(change: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        config_of("default", [change])
    message = str(caught.value)
    assert "\n" not in message and message.endswith(".") and "pydantic" not in message


def test_a_run_must_do_something() -> None:
    with pytest.raises(ConfigError, match="must not both be 0"):
        config_of("default", ["rounds=0", "final_updates=0"])


def test_settings_are_changed_by_name() -> None:
    changes = ["learning.gamma=0.9", "name=mine", "images=12", "network.graph=false", "merge=['a', 'b']"]
    config = config_of("default", [*changes, "game.corruptions={clean=0.25, flip=0.75}", "epsilon=[0.5, 0]"], seed=7)
    assert (config.learning.gamma, config.name, config.images, config.seed) == (0.9, "mine", 12, 7)
    assert config.network.graph is False and config.merge == ("a", "b") and config.epsilon == (0.5, 0.0)
    assert config.game.corruptions == {"clean": 0.25, "flip": 0.75}
    assert config.learning.batch == load_config("default").learning.batch
    assert config_of("paper", ["images=none"]).images is None


@pytest.mark.parametrize(
    ("preset", "changes"),
    [
        ("default", []),
        ("paper", ["images=none", "seed=3"]),
        ("default", ["name=my cells", "game.corruptions={flip = 1.0}", 'merge=["a b"]', "learning.double=false"]),
    ],
)
def test_the_command_gives_the_same_settings_again(preset: str, changes: list[str]) -> None:
    config = config_of(preset, changes)
    words = shlex.split(command_line(config, ["cells", "my cats"], "run"))
    assert words[:5] == ["ppd", "train", "--data", "cells", "my cats"]
    sets = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    seed = int(words[words.index("--seed") + 1]) if "--seed" in words else None
    assert config_of(words[words.index("--preset") + 1], sets, seed) == config


def test_settings_survive_json() -> None:
    config = load_config("default")
    assert parse_config(json.loads(json.dumps(config.model_dump())), "here") == config


def test_values_reach_into_the_groups() -> None:
    found = values(load_config("paper"))
    assert found["learning.gamma"] == 0.99 and found["game.paper"] is True
    assert set(found) == {name for name, _ in setting_names()}


def test_a_toml_file_is_read_and_checked(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('name = "mine"\n[learning]\ngamma = 0.5\n')
    assert load_config(file).learning.gamma == 0.5
    assert load_config(file, rounds=3).rounds == 3
    for text, said in (
        ("name = ", "mine.toml is not valid TOML"),
        ("rounds = 3", "name is missing"),
        ('name = "x"\n[learning]\nlerning_rate = 1', "did you mean learning.learning_rate"),
    ):
        file.write_text(text)
        with pytest.raises(ConfigError, match=said) as caught:
            load_config(file)
        assert "\n" not in str(caught.value)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_config(file)


@pytest.mark.parametrize("name", ["papr", "nowhere.toml", "", "/"])
def test_an_unknown_preset_is_answered_with_the_known_ones(name: str) -> None:
    with pytest.raises(ConfigError, match="default, paper"):
        load_config(name)


def test_a_near_miss_is_guessed() -> None:
    with pytest.raises(ConfigError, match="did you mean 'paper'"):
        load_config("papr")


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_config("default").rounds = 3  # type: ignore[misc]
    assert TrainingConfig(name="x") == TrainingConfig(name="x")
