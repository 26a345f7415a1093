"""The example plays a whole game and tells of each move."""

from __future__ import annotations

import re


def test_it_plays_to_the_end(segmenter, load_example, capsys):
    load_example("play_game").main(0)
    start, *moves = capsys.readouterr().out.splitlines()
    scores = [float(re.search(r"Dice (\d\.\d+)$", line)[1]) for line in (start, *moves)]
    assert scores[0] > 0.8, "ideal prompts give a good mask"
    assert [line.split()[0] for line in moves[:4]] == ["attacker"] * 4
    assert all(line.startswith("defender") for line in moves[4:]) and " over " in moves[-1]
