from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from point_prompt_defender import demo
from point_prompt_defender.cli.main import main


def test_picture_figures_and_table(tmp_path, random_agent, segmenter, capsys, monkeypatch):
    # Two photographs are enough here; `make demo` plays them all.
    few = [scene for scene in demo.load_scenes() if scene.name in ("rocket", "coin")]
    monkeypatch.setattr(demo, "load_scenes", lambda: few)
    out = tmp_path / "out"
    agents = ["--agent", str(random_agent), "--attacker", str(random_agent)]
    assert main(["demo", "--out", str(out), *agents, "--budget", "fast"]) == 0
    figures = json.loads((out / "demo.json").read_text())
    assert [case["image"] for case in figures["cases"]] == ["rocket", "coins"]
    assert figures["seconds"] > 0
    assert np.mean([case["dice_ideal"] for case in figures["cases"]]) > 0.75
    with Image.open(out / "demo.png") as picture:
        assert picture.width > 1200 and picture.height > 500
    printed = capsys.readouterr().out
    assert "rocket" in printed and "mean" in printed and "won back" in printed


def test_an_unwritable_folder_is_told_before_the_work(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["demo", "--out", str(tmp_path / "file" / "out"), "--agent", "no-such-agent"]) == 2
    error = capsys.readouterr().err
    assert "can't be written" in error and "no-such-agent" not in error


def test_an_unknown_agent(tmp_path, segmenter, capsys):
    assert main(["demo", "--out", str(tmp_path), "--agent", "no-such-agent"]) == 2
    assert "no-such-agent" in capsys.readouterr().err


def test_help_has_an_example(capsys):
    with pytest.raises(SystemExit) as end:
        main(["demo", "--help"])
    assert end.value.code == 0 and "ppd demo --out" in capsys.readouterr().out
