"""Training with the real segmenter, as small as it can be: killed and resumed, it gives the same numbers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import point_prompt_defender as ppd
from point_prompt_defender.agents.files import load_network
from point_prompt_defender.cli.main import main
from point_prompt_defender.errors import ConfigError
from point_prompt_defender.training.config import load_config
from point_prompt_defender.training.export import export_agents
from point_prompt_defender.training.self_play import SelfPlay
from point_prompt_defender.training.settings import config_of

sys.path.insert(0, str(Path(__file__).parent))
from photographs import make_photographs, write_settings  # noqa: E402

TIMES = ("decodes_per_second", "seconds", "seconds_play", "seconds_train", "total_seconds")
PATIENCE = 300  # seconds that a process may take to get somewhere, on a machine busy with other things


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data and settings; the embeddings are computed once for all runs in it."""
    place = tmp_path_factory.mktemp("training")
    make_photographs(place / "photographs")
    write_settings(place / "tiny.toml")
    return place


def words(place: Path, run: str, *more: str) -> list[str]:
    return [
        "train", "--data", str(place / "photographs"), "--out", str(place / run), "--preset", str(place / "tiny.toml"),
        "--cache", str(place / "embeddings"), *more,
    ]  # fmt: skip


def numbers(log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A log without what depends on the clock."""
    return [{key: value for key, value in entry.items() if key not in TIMES} for entry in log]


def read_log(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def unbroken(place: Path) -> list[dict[str, Any]]:
    """The log of a run by two processes that nothing happened to."""
    heard = []
    play = SelfPlay(
        load_config(place / "tiny.toml"), [str(place / "photographs")], place / "unbroken", place / "embeddings", jobs=2
    )
    log = list(play.rounds(lambda what, done, total: heard.append((what, done, total))))
    assert play.total_rounds == len(log) == 3
    assert {what for what, _, _ in heard} == {
        "attacker plays", "attacker learns", "defender plays", "defender learns", "validation",
    }  # fmt: skip
    assert all(0 < done <= total for _, done, total in heard)
    return log


def test_a_run_logs_what_it_did(place: Path, unbroken: list[dict[str, Any]]) -> None:
    assert [entry["round"] for entry in unbroken] == [1, 2, 3]
    first, last = load_config(place / "tiny.toml").epsilon
    assert [entry["epsilon"] for entry in unbroken] == [first, last, last]
    assert numbers(read_log(place / "unbroken")) == numbers(unbroken)
    for entry in unbroken:
        assert all(0 <= value <= 1 for key, value in entry.items() if key.startswith("val_"))
        assert np.isfinite([value for value in entry.values()]).all()
    assert len({entry["val_ideal"] for entry in unbroken}) == 1  # the same games every round
    assert "attacker_loss_q" in unbroken[1] and "attacker_loss_q" not in unbroken[2]
    assert sum(entry["decodes"] for entry in unbroken) == unbroken[-1]["total_decodes"] > 0
    before, after = (load_network(place / f"unbroken/agents/defender_{n:03d}.safetensors")[0] for n in (1, 3))
    assert any((a != b).any() for a, b in zip(before.parameters(), after.parameters(), strict=True))


def test_killed_and_resumed_by_one_process_it_gives_the_same_numbers(
    place: Path, unbroken: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    run = place / "killed"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "point_prompt_defender", *words(place, "killed", "--jobs", "1")]
    with (place / "killed.txt").open("w") as said:
        process = subprocess.Popen(command, env=environment, stderr=said, stdout=said)
    wait_for(lambda: (run / "agents" / "attacker_002.safetensors").exists(), process)  # in the midst of round 2
    children = children_of(process.pid)
    process.send_signal(signal.SIGKILL)
    assert process.wait(PATIENCE) == -signal.SIGKILL
    assert len(read_log(run)) == 1
    assert children
    wait_for(lambda: not any(map(is_running, children)))  # nobody is left behind to hold the memory

    assert main(words(place, "killed", "--jobs", "1")) == 2  # not without --resume
    assert "--resume" in capsys.readouterr().err
    assert main(words(place, "killed", "--jobs", "1", "--resume", "--json")) == 0
    result = json.loads(capsys.readouterr().out)

    assert numbers(read_log(run)) == numbers(unbroken)
    for role in ("attacker", "defender"):
        network, card = load_network(run / f"{role}.safetensors")
        other, _ = load_network(place / "unbroken" / "agents" / f"{role}_003.safetensors")
        for (name, a), b in zip(network.state_dict().items(), other.state_dict().values(), strict=True):
            assert np.array_equal(a.numpy(), b.numpy()), name
        assert card["role"] == role and card["rounds"] == 3 and card["decodes"] == unbroken[-1]["total_decodes"]
    check_outputs(run, result)


def check_outputs(run: Path, result: dict[str, Any]) -> None:
    """What a finished run leaves behind."""
    card = result["card"]
    assert card["data"] == ["photographs"] and card["seed"] == 0 and card["paper"] is False
    assert card["validation"]["ideal"] == read_log(run)[-1]["val_ideal"]
    text = (run / "README.md").read_text()
    assert card["command"] in text and "Limits" in text
    assert str(run.parent) not in text + json.dumps(card)  # names of folders, never paths of this machine
    with Image.open(run / "curves.png") as picture:
        assert picture.format == "PNG" and min(picture.size) > 300
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    board = event_accumulator.EventAccumulator(str(run / "tensorboard")).Reload()
    ideal = board.Scalars("val/ideal")
    assert [point.step for point in ideal] == [1, 2, 3]  # round 2 once, although it was played twice
    assert len(list((run / "tensorboard").iterdir())) == 1
    assert ppd.PointPromptDefender.from_pretrained(run).network.settings["width"] == 8


def test_a_finished_run_is_resumed_to_the_same_end(place: Path, unbroken: list[dict[str, Any]]) -> None:
    play = SelfPlay(
        load_config(place / "tiny.toml"), [place / "photographs"], place / "unbroken", place / "none", resume=True
    )
    assert list(play.rounds()) == []
    other, _ = load_network(place / "unbroken" / "agents" / "defender_003.safetensors")
    for a, b in zip(play.agents["defender"].online.parameters(), other.parameters(), strict=True):
        assert np.array_equal(a.detach().numpy(), b.numpy())
    assert read_log(place / "unbroken") == unbroken


def test_other_settings_or_data_are_not_resumed(place: Path, unbroken: list[dict[str, Any]], tmp_path: Path) -> None:
    run, settings, data = place / "unbroken", place / "tiny.toml", [place / "photographs"]
    with pytest.raises(ConfigError, match="holds a training run; add --resume"):
        SelfPlay(load_config(settings), data, run)
    with pytest.raises(ConfigError, match="trained with other settings"):
        SelfPlay(load_config(settings, seed=1), data, run, resume=True)
    other = make_photographs(tmp_path / "photographs")  # the same name, but one picture goes by another
    for part in ("images", "masks"):
        (other / part / "coffee.png").rename(other / part / "cup.png")
    with pytest.raises(ConfigError, match="trained with other data"):
        SelfPlay(load_config(settings), [other], run, resume=True)


def test_a_refused_start_leaves_the_folder_free(place: Path, tmp_path: Path) -> None:
    alone = make_photographs(tmp_path / "alone")
    (alone / "images" / "coffee.png").unlink()
    with pytest.raises(ConfigError, match="two images or more"):
        SelfPlay(load_config(place / "tiny.toml"), [alone], tmp_path / "run")
    SelfPlay(load_config(place / "tiny.toml"), [place / "photographs"], tmp_path / "run")


def test_a_run_starts_from_another(place: Path, unbroken: list[dict[str, Any]], tmp_path: Path) -> None:
    """Nothing to play and to learn: what comes out is what the other run ended with, and resuming remembers where."""
    settings, data = load_config(place / "tiny.toml", rounds=1, final_updates=0), [place / "photographs"]
    still = settings.model_copy(
        update={"attack_rounds": 0, "defence_updates": 0, "game": settings.game.model_copy(update={"defence_moves": 1})}
    )
    run, where = tmp_path / "run", {"cache": place / "embeddings"}
    play = SelfPlay(still, data, run, start_from=place / "unbroken", **where)
    again = SelfPlay(still, data, run, resume=True, **where)
    assert again.start_from == play.start_from == (place / "unbroken").resolve()
    (entry,) = again.rounds()
    assert entry["defender_states"] == 3  # the memory was full already
    cards = export_agents(again, [entry])
    other, _ = load_network(place / "unbroken" / "agents" / "attacker_003.safetensors")
    copied, card = load_network(run / "attacker.safetensors")
    assert all(np.array_equal(a, b) for a, b in zip(copied.parameters(), other.parameters(), strict=True))
    assert card["started_from"] == "unbroken" and "--from unbroken" in cards["defender"]["command"]


def test_a_start_that_does_not_fit_is_refused(place: Path, unbroken: list[dict[str, Any]], tmp_path: Path) -> None:
    other, data = config_of(str(place / "tiny.toml"), ["network.width=16"]), [place / "photographs"]
    with pytest.raises(ConfigError, match="of other sizes"):
        next(SelfPlay(other, data, tmp_path / "a", start_from=place / "unbroken").rounds())
    with pytest.raises(ConfigError, match="no checkpoint to start from"):
        next(SelfPlay(other, data, tmp_path / "b", start_from=tmp_path).rounds())


def wait_for(condition: Any, process: subprocess.Popen | None = None) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert process is None or process.poll() is None, "the process ended early"
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.05)


def children_of(parent: int) -> list[int]:
    """Processes that a process started, on systems with /proc."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = status.read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        if int(after_name[1]) == parent:
            found.append(int(status.parent.name))
    return found


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
