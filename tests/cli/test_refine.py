"""`ppd refine` from files to files, on the real segmenter with an untrained agent."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from point_prompt_defender.cli.main import main
from point_prompt_defender.images import load_mask

POINTS = {"points": [[265, 245], [260, 240], [100, 100], [300, 50], [350, 150]], "labels": [1, 1, 0, 0, 1]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, photo):
    """An image and its points."""
    folder = tmp_path_factory.mktemp("refine")
    Image.fromarray(photo).save(folder / "cat.png")
    (folder / "points.json").write_text(json.dumps(POINTS))
    (folder / "points.csv").write_text(
        "x,y,label\n" + "".join(f"{x},{y},{v}\n" for (x, y), v in zip(*POINTS.values(), strict=True))
    )
    return folder


def refine(folder, out, *more, image="cat.png", points="points.json"):
    return main(["refine", str(folder / image), "--points", str(folder / points), "--out", str(out), *map(str, more)])


def test_result_mask_overlay_and_table(folder, tmp_path, random_agent, segmenter, capsys):
    out, mask, overlay = (tmp_path / "new" / name for name in ("r.json", "m.png", "o.png"))
    assert refine(folder, out, "--mask", mask, "--overlay", overlay, "--agent", random_agent) == 0
    r = json.loads(out.read_text())
    assert [[p["x"], p["y"]] for p in r["points"]] == POINTS["points"]
    assert [p["label"] for p in r["points"]] == POINTS["labels"]
    assert r["keep"] == [p["kept"] for p in r["points"]]
    assert sorted(r["removal_order"]) == [i for i, kept in enumerate(r["keep"]) if not kept]
    assert any(p["kept"] and p["label"] == 1 for p in r["points"])
    assert all(bool(p["reason"]) != p["kept"] for p in r["points"])
    assert r["timings"]["encodes"] == 1
    saved = load_mask(mask, (300, 451))
    flat = np.repeat(np.arange(len(r["mask"]["counts"])) % 2 == 1, r["mask"]["counts"])
    np.testing.assert_array_equal(flat.reshape(300, 451, order="F"), saved)
    with Image.open(overlay) as picture:
        assert picture.width > 2 * 451
    printed = capsys.readouterr().out
    kept = sum(r["keep"])
    assert f"Kept {kept} of 5 points" in printed and "->" in printed
    if kept < 5:
        assert "labelled" in printed


def test_json_on_the_standard_output_from_csv_points(folder, tmp_path, random_agent, segmenter, capsys):
    more = ("--json", "--agent", random_agent, "--budget", "fast")
    assert refine(folder, tmp_path / "r.json", *more, points="points.csv") == 0
    printed = json.loads(capsys.readouterr().out)
    assert [[p["x"], p["y"]] for p in printed["points"]] == POINTS["points"]
    assert printed["budget"] == "fast" and "mask" not in printed
    written = json.loads((tmp_path / "r.json").read_text())
    assert all(written[key] == printed[key] for key in printed)


@pytest.mark.parametrize(
    ("image", "points", "message"),
    [
        ("absent.png", "points.json", "There is no image"),
        ("broken.png", "points.json", "not an image"),
        ("points.json", "points.json", "not an image"),
        ("cat.png", "absent.json", "There is no file"),
        ("cat.png", "outside.json", "outside the image of 451 x 300"),
        ("cat.png", "empty.json", "no points"),
        ("cat.png", "negative.json", "no positive point"),
        ("cat.png", "cat.png", "UTF-8"),
    ],
)
def test_bad_input_ends_with_one_sentence(folder, tmp_path, image, points, message, capsys):
    (folder / "broken.png").write_bytes(b"broken")
    (folder / "outside.json").write_text('{"points": [[460, 10]], "labels": [1]}')
    (folder / "empty.json").write_text('{"points": [], "labels": []}')
    (folder / "negative.json").write_text('{"points": [[1, 1]], "labels": [0]}')
    assert refine(folder, tmp_path / "r.json", image=image, points=points) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and "Traceback" not in error
    assert not (tmp_path / "r.json").exists()


@pytest.mark.parametrize("option", ["--out", "--mask", "--overlay"])
def test_outputs_are_checked_before_anything_is_read(folder, tmp_path, option, capsys):
    (tmp_path / "file").write_text("")
    for bad, message in ((tmp_path / "file" / "x", "can't be written"), (tmp_path, "is a folder")):
        more = [option, str(bad)]  # a second --out takes the place of the first
        assert refine(folder, tmp_path / "r.json", *more, image="absent.png") == 2
        error = capsys.readouterr().err
        assert message in error and "absent" not in error


def test_no_output_may_replace_an_input_or_another_output(folder, tmp_path, capsys):
    before = (folder / "points.json").read_bytes()
    assert refine(folder, folder / "points.json") == 2
    assert "same file as the points" in capsys.readouterr().err
    assert (folder / "points.json").read_bytes() == before
    assert refine(folder, tmp_path / "a", "--mask", tmp_path / "a") == 2
    assert "same file as the out" in capsys.readouterr().err


def test_unknown_segmenter_and_agent(folder, tmp_path, random_agent, segmenter, capsys):
    assert refine(folder, tmp_path / "r.json", "--agent", random_agent, "--segmenter", "mobile_sam") == 2
    assert "did you mean 'mobile-sam'" in capsys.readouterr().err
    assert refine(folder, tmp_path / "r.json", "--agent", "no-such-agent") == 2
    assert "no-such-agent" in capsys.readouterr().err


def test_wrong_use_and_help(capsys):
    with pytest.raises(SystemExit) as end:
        main(["refine", "cat.png"])
    assert end.value.code == 2 and "--points" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        main(["refine", "--help"])
    assert end.value.code == 0 and "ppd refine photo.jpg" in capsys.readouterr().out
