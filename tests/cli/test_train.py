"""`ppd train`: what it refuses, what it says, and how it is interrupted. Whole runs: training/test_self_play.py."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

from point_prompt_defender.cli import train
from point_prompt_defender.cli.main import main
from point_prompt_defender.training.config import load_config, setting_names
from point_prompt_defender.training.curves import draw_curves

PATIENCE = 300  # seconds, for a machine busy with other things


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three photographs of 90 x 60 pixels, a disc each."""
    y, x = np.mgrid[:60, :90]
    for part in ("images", "masks"):
        (tmp_path / "data" / part).mkdir(parents=True)
    for name in ("coffee", "chelsea", "rocket"):
        photo = Image.fromarray(getattr(skimage.data, name)()).resize((90, 60))
        photo.save(tmp_path / "data" / "images" / f"{name}.png")
        Image.fromarray(np.hypot(x - 45, y - 30) < 20).save(tmp_path / "data" / "masks" / f"{name}.png")
    return tmp_path / "data"


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that `ppd train` ends with, wrong use."""
    assert main(["train", *map(str, words)]) == 2
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert line.startswith("ppd") and not said.out
    return line


def test_settings_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["train", "--list-settings"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert all(f"{name} = " in out for name, _ in setting_names())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--set", "learning.gama=0.9"], "did you mean learning.gamma"),
        (["--preset", "papr"], "did you mean 'paper'"),
        (["--preset", "nowhere.toml"], "There is no preset or file"),
        (["--seed", "-1"], "seed"),
        (["--set", "segmenter=mobile-sum"], "mobile-sum"),
    ],
)
def test_wrong_settings(words: list[str], said: str, data: Path, tmp_path: Path, capsys) -> None:
    assert said in refused_after_the_data(["--data", data, "--out", tmp_path / "run", *words], capsys)


def refused_after_the_data(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["train", *map(str, words)]) == 2
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("words", [["--jobs", "0"], ["--jobs", "two"], ["--seed", "x"], []])
def test_wrong_arguments(words: list[str], data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", "run"] if words else []
    with pytest.raises(SystemExit) as caught:
        main(["train", "--data", str(data), *out, *words])
    assert caught.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_folders_that_cant_be_used(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "file"
    file.write_text("")
    assert "can't be written" in refused(["--data", data, "--out", file / "run"], capsys)
    assert "can't be written" in refused(["--data", data, "--out", tmp_path / "run", "--cache", file / "c"], capsys)
    assert "is no data folder" in refused(["--data", tmp_path / "nowhere", "--out", tmp_path / "run"], capsys)
    for mask in (data / "masks").iterdir():
        mask.unlink()
    assert "No object" in refused(["--data", data, "--out", tmp_path / "run"], capsys)
    assert not (tmp_path / "run" / "config.json").exists()  # the folder is free for the next try


def test_what_is_missing_is_named(data: Path, monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    found = train.find_spec
    monkeypatch.setattr(train, "find_spec", lambda name: None if name == "pydantic" else found(name))
    line = refused(["--data", data, "--out", "run"], capsys)
    assert "pydantic" in line and "pip install 'point-prompt-defender[train]'" in line
    with pytest.raises(SystemExit) as caught:
        main(["train", "--list-settings"])
    assert caught.value.code == 2 and "[train]" in capsys.readouterr().err


def test_a_damaged_run_is_not_resumed(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{")
    assert "is damaged" in refused(["--data", data, "--out", tmp_path / "run", "--resume"], capsys)


def test_resuming_takes_the_settings_of_the_run(tmp_path: Path) -> None:
    from argparse import Namespace

    config = load_config("paper", seed=5)
    (tmp_path / "config.json").write_text(json.dumps(config.model_dump()))
    nothing = {"preset": None, "set": [], "seed": None}
    assert train._settings(Namespace(resume=True, **nothing), tmp_path) == config
    assert train._settings(Namespace(resume=False, **nothing), tmp_path) == load_config("default")
    assert train._settings(Namespace(resume=True, **{**nothing, "seed": 6}), tmp_path).seed == 6


def test_ctrl_c_is_one_line_and_ends_all_processes(data: Path, tmp_path: Path) -> None:
    """Bad files are named first; then ctrl-C reaches all processes, as from a terminal, while the games start up."""
    (data / "masks" / "rocket.png").write_bytes(b"not a picture")
    words = ["train", "--data", data, "--out", tmp_path / "run", "--jobs", "2", "--set", "validation_games=1"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-m", "point_prompt_defender", *map(str, words)],
        env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True,
        # A test suite that was started in the background has ctrl-C ignored, and would hand that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    end = time.monotonic() + PATIENCE
    while len(processes_of(process.pid)) < 4:  # itself, the tracker of resources, and two that play
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.05)
    started = processes_of(process.pid)
    for other in started - {process.pid}:
        os.kill(other, signal.SIGINT)
    time.sleep(1)
    assert processes_of(process.pid) == started  # ctrl-C is the first process's to handle
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=PATIENCE)[1].splitlines()
    assert process.returncode == 130
    assert "Traceback" not in "\n".join(said)
    assert "left out" in said[0] and "rocket.png" in said[0]
    assert "interrupted" in said[-1] and "--resume" in said[-1]
    assert (tmp_path / "run" / "config.json").exists()
    while processes_of(process.pid):
        assert time.monotonic() < end
        time.sleep(0.05)


def processes_of(session: int) -> set[int]:
    """The processes of a session that are running, on systems with /proc."""
    found = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, its_session = status.read_text().rpartition(")")[2].split()[:4]
        except OSError:  # it ended meanwhile
            continue
        if int(its_session) == session and state not in "ZX":
            found.add(int(status.parent.name))
    return found


def test_rows_line_up_and_gaps_are_dashes() -> None:
    entry = {"round": 3, "val_ideal": 0.75, "epsilon": 0.5, "total_seconds": 90.0}
    row, heading = train._row(entry), "  ".join(train.COLUMNS)
    assert len(row) == len(heading)
    assert row.split() == ["3", "0.750", "-", "-", "-", "-", "-", "-", "0.50", "-", "1.5"]


def test_curves_are_drawn_whatever_happened(tmp_path: Path) -> None:
    log = [{"round": 1, "val_ideal": 0.8, "epsilon": 1.0}, {"round": 2, "val_ideal": 0.7, "defender_loss_q": 0.1}]
    for part in (log[:1], log, []):
        draw_curves(part, tmp_path / "curves.png")
        with Image.open(tmp_path / "curves.png") as picture:
            assert picture.format == "PNG"
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]
