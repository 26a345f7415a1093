"""The example drops the click that went astray, at every budget, and nothing on the cat's nose."""

from __future__ import annotations


def test_it_finds_the_wrong_click(segmenter, load_example, capsys):
    load_example("refine_points").main()
    said = capsys.readouterr().out
    assert [line.split(":")[0] for line in said.splitlines() if "kept" in line] == ["fast", "default", "thorough"]
    assert said.count("dropped [100, 100]") == 3
    assert "dropped [269, 236]" not in said
