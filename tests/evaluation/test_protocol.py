"""`measure` on a small real data folder: complete, resumable, the same every time."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from point_prompt_defender.errors import ConfigError
from point_prompt_defender.evaluation.protocol import METHODS, NOISES, Protocol, measure, trials
from point_prompt_defender.evaluation.report import markdown, summarise

FAST = ("keep-all", "random-4", "knn", "noise-oracle")


@pytest.fixture(scope="module")
def data(tmp_path_factory, photo):
    """Two crops of a photograph with an ellipse each for a mask."""
    folder = tmp_path_factory.mktemp("data") / "cats"
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    for name, left in (("a", 60), ("b", 100)):
        crop = photo[40:260, left : left + 280]
        y, x = np.mgrid[:220, :280]
        mask = ((x - 140) / 80) ** 2 + ((y - 110) / 70) ** 2 < 1
        Image.fromarray(crop).save(folder / "images" / f"{name}.png")
        Image.fromarray(mask.astype(np.uint8)).save(folder / "masks" / f"{name}.png")
    return str(folder)


@pytest.fixture(scope="module")
def measured(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    protocol = Protocol((data,), noises=("clean", "flip-4"), methods=FAST, seeds=2)
    return protocol, out, measure(protocol, out)


def without_times(rows):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def test_every_trial_has_a_row_of_every_method(measured):
    protocol, _, rows = measured
    assert len(rows) == 2 * 2 * 2 * len(FAST)
    assert {(r["trial"], r["method"]) for r in rows} == {(t.key, m) for t in trials(protocol) for m in FAST}
    for row in rows:
        if row["method"] == "keep-all":
            assert row["dice_after"] == row["dice_before"] and row["removed"] == 0
        if row["method"] == "noise-oracle":
            assert row["hits"] == row["wrong"] == row["removed"] == (4 if row["noise"] == "flip-4" else 0)


def test_a_killed_run_goes_on_and_ends_the_same(measured, tmp_path):
    protocol, out, rows = measured
    lines = (out / "cases.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "protocol.json").write_text((out / "protocol.json").read_text())
    # Killed in the middle of a write: the second trial lacks its last method, and has a torn line in its place.
    (tmp_path / "cases.jsonl").write_text("".join(lines[: 2 * len(FAST) - 1]) + lines[2 * len(FAST) - 1][:30])
    assert without_times(measure(protocol, tmp_path)) == without_times(rows)
    stored = [json.loads(line) for line in (tmp_path / "cases.jsonl").read_text().splitlines()]
    assert len(stored) == len(rows)


def test_a_further_method_is_measured_alone(measured, data, tmp_path):
    protocol, out, rows = measured
    for name in ("protocol.json", "cases.jsonl"):
        (tmp_path / name).write_text((out / name).read_text())
    more = measure(Protocol((data,), protocol.noises, (*FAST, "knn-dual"), seeds=2), tmp_path)
    assert [r for r in more if r["method"] != "knn-dual"] == rows
    assert len(more) == len(rows) + 8


def test_another_protocol_does_not_mix_into_old_results(measured, data):
    _, out, _ = measured
    with pytest.raises(ConfigError, match="another protocol"):
        measure(Protocol((data,), methods=FAST, points=4), out)


def test_the_summary_has_the_fields_of_the_contract(measured):
    rows = measured[2]
    summary = summarise(rows, draws=50)
    assert len(summary) == 2 * len(FAST)
    wanted = {
        "dataset",
        "noise",
        "method",
        "n",
        "dice_before",
        "dice_after",
        "iou_after",
        "harm",
        "removed",
        "decodes",
        "seconds",
    }
    for entry in summary:
        assert wanted <= set(entry)
        mine = [r for r in rows if r["method"] == entry["method"] and r["noise"] == entry["noise"]]
        assert entry["n"] == 4
        assert entry["dice_after"] == pytest.approx(np.mean([r["dice_after"] for r in mine]))
    text = markdown(summary)
    assert all(name in text for name in FAST)


def test_recovery_is_of_what_the_oracle_gets():
    def row(method, trial, before, after):
        return {
            "trial": str(trial), "dataset": "d", "image": str(trial), "noise": "flip-4", "method": method,
            "dice_before": before, "dice_after": after, "iou_after": 0, "hd95": 0, "boundary_f": 0, "removed": 1,
            "wrong": 1, "hits": 1, "decodes": 1, "seconds": 0.1,
        }  # fmt: skip

    rows = []
    for trial, (before, mine, best) in enumerate([(0.2, 0.5, 0.8), (0.4, 0.6, 0.8)]):
        rows += [
            row("keep-all", trial, before, before),
            row("ppd-default", trial, before, mine),
            row("oracle", trial, before, best),
        ]
    by_method = {e["method"]: e for e in summarise(rows, draws=200)}
    assert by_method["ppd-default"]["recovery"] == pytest.approx(0.25 / 0.5)
    assert by_method["oracle"]["recovery"] == pytest.approx(1)
    low, high = by_method["ppd-default"]["recovery_ci95"]
    assert low <= 0.5 <= high
    assert by_method["ppd-default"]["over_best_control"] == pytest.approx(0.25)


@pytest.mark.parametrize("change", [{"noises": ("fog",)}, {"methods": ("magic",)}])
def test_unknown_names_are_refused_and_the_known_ones_listed(change):
    with pytest.raises(ConfigError, match="|".join([NOISES[0], METHODS[0]])):
        Protocol(("x",), **change)
