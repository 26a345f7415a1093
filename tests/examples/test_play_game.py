"""The example plays a whole game and tells of each move."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "play_game.py"


def test_it_plays_to_the_end(segmenter, capsys):
    spec = importlib.util.spec_from_file_location("play_game", EXAMPLE)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main(0)
    start, *moves = capsys.readouterr().out.splitlines()
    scores = [float(re.search(r"Dice (\d\.\d+)$", line)[1]) for line in (start, *moves)]
    assert scores[0] > 0.8, "ideal prompts give a good mask"
    assert [line.split()[0] for line in moves[:4]] == ["attacker"] * 4
    assert all(line.startswith("defender") for line in moves[4:]) and " over " in moves[-1]
