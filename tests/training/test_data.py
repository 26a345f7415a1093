from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from point_prompt_defender.errors import ImageError
from point_prompt_defender.training.data import SegmentedObject, find_objects, split_by_image

SIZE = (40, 60)  # height, width


def square(top: int, left: int, side: int = 12) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[top : top + side, left : left + side] = True
    return mask


def add(folder: Path, stem: str, mask: np.ndarray | None, suffix: str = ".png") -> None:
    """An image and its mask."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(stem)).integers(0, 255, (*SIZE, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "images" / f"{stem}{suffix}")
    if mask is not None:
        Image.fromarray(mask).save(folder / "masks" / f"{stem}.png")


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    """Two objects in `two` (an instance map), one in `one` (binary), an image without a mask."""
    folder = tmp_path / "cells"
    add(folder, "two", 3 * square(2, 3).astype(np.uint8) + 9 * square(20, 40).astype(np.uint8))
    add(folder, "one", 255 * square(10, 10).astype(np.uint8), ".jpg")
    add(folder, "bare", None)
    return folder


def test_objects_are_found_with_their_masks(cells: Path) -> None:
    found = {(o.image_path.stem, o.instance): o for o in find_objects([str(cells)])}
    assert set(found) == {("two", 3), ("two", 9), ("one", -1)}
    assert np.array_equal(found["two", 9].mask(), square(20, 40))
    assert np.array_equal(found["one", -1].mask(), square(10, 10))
    assert all(o.image().shape == (*SIZE, 3) and o.dataset == "cells" for o in found.values())


def test_a_class_map_is_one_object_where_it_is_said_to_be_one(cells: Path) -> None:
    found = {o.image_path.stem: o for o in find_objects([cells], merge=("cells",))}
    assert np.array_equal(found["two"].mask(), square(2, 3) | square(20, 40))


def test_too_small_and_too_large_objects_are_left_out(cells: Path) -> None:
    speck = np.zeros(SIZE, np.uint8)
    speck[:3, :3] = 1  # 9 pixels of 2400: 0.4 %
    speck[10:, :] = 2  # 75 %
    speck[4:10, :30] = 3  # 7.5 %
    add(cells, "sizes", speck)
    assert [o.instance for o in find_objects([cells]) if o.image_path.stem == "sizes"] == [3]


def damage(cells: Path, kind: str) -> str:
    """Make one file unusable; its name."""
    image, mask = cells / "images" / "two.png", cells / "masks" / "two.png"
    if kind == "image cut short":
        image.write_bytes(image.read_bytes()[:-2000])
        return image.name
    if kind == "image of text":
        image.write_text("hello")
        return image.name
    if kind == "empty mask file":
        mask.write_bytes(b"")
    elif kind == "mask of another size":
        Image.fromarray(np.ones((SIZE[1], SIZE[0]), np.uint8)).save(mask)
    elif kind == "mask in colours":
        colours = np.zeros((*SIZE, 3), np.uint8)
        colours[..., 1] = square(2, 3)
        Image.fromarray(colours).save(mask)
    return str(Path("masks") / mask.name)


@pytest.mark.parametrize(
    "kind", ["image cut short", "image of text", "empty mask file", "mask of another size", "mask in colours"]
)
def test_a_file_that_cant_be_used_is_named_and_left_out(cells: Path, kind: str) -> None:
    name = damage(cells, kind)
    with pytest.raises(ImageError, match=name) as caught:
        find_objects([cells])
    assert "\n" not in str(caught.value)
    problems: list[str] = []
    kept = find_objects([cells], on_problem=problems.append)
    assert [o.image_path.stem for o in kept] == ["one"]
    assert len(problems) == 1 and name in problems[0]


def test_a_mask_must_turn_with_its_image(cells: Path) -> None:
    """EXIF says that the image lies on its side: so its mask is of another size than what is seen."""
    exif = Image.Exif()
    exif[0x0112] = 6
    path = cells / "images" / "one.jpg"
    Image.open(path).save(path, exif=exif)
    with pytest.raises(ImageError, match="60 x 40 pixels but its image 40 x 60"):
        find_objects([cells])


def test_nothing_usable_is_refused_with_the_reason(cells: Path, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="is no data folder"):
        find_objects([tmp_path])
    with pytest.raises(ImageError, match="is no data folder"):
        find_objects([tmp_path / "nowhere"])
    (cells / "images" / "one.jpg").unlink()
    name = damage(cells, "mask of another size")
    with pytest.raises(ImageError, match=f"No object .*cells.*1 file.*{name}"):
        find_objects([cells], on_problem=lambda _: None)
    for part in ("images", "masks"):
        (tmp_path / "empty" / part).mkdir(parents=True)
    with pytest.raises(ImageError, match="No object"):
        find_objects([tmp_path / "empty"])


def coco(folder: Path, segmentation: object, size: tuple[int, int] = SIZE) -> Path:
    add(folder, "scene", None)
    content = {
        "images": [{"id": 7, "file_name": "scene.png", "height": size[0], "width": size[1]}],
        "annotations": [{"id": 1, "image_id": 7, "segmentation": segmentation}],
    }
    path = folder / "instances.json"
    path.write_text(json.dumps(content))
    return path


def test_coco_polygons_and_runs(tmp_path: Path) -> None:
    expected = square(10, 20)
    polygon = [20, 10, 31, 10, 31, 21, 20, 21]
    (found,) = find_objects([coco(tmp_path / "polygons", [polygon])])
    assert np.array_equal(found.mask(), expected) and found.image().shape == (*SIZE, 3)
    runs = np.diff(np.flatnonzero(np.diff(expected.T.ravel(), prepend=0)), prepend=0).tolist()
    counts = [*runs, expected.size - sum(runs)]
    (found,) = find_objects([coco(tmp_path / "runs", {"counts": counts, "size": list(SIZE)})])
    assert np.array_equal(found.mask(), expected)


def test_coco_files_are_checked(tmp_path: Path) -> None:
    polygon = [[20, 10, 31, 10, 31, 21, 20, 21]]
    with pytest.raises(ImageError, match="scene.png has 60 x 40 pixels but 60 x 50 in the COCO file"):
        find_objects([coco(tmp_path / "a", polygon, (50, 60))])
    path = coco(tmp_path / "b", polygon)
    (tmp_path / "b" / "images" / "scene.png").unlink()
    with pytest.raises(ImageError, match="scene.png"):
        find_objects([path])
    for text in ("{", "[]", '{"images": []}', '{"images": [3], "annotations": []}'):
        path.write_text(text)
        with pytest.raises(ImageError, match="is no COCO file") as caught:
            find_objects([path])
        assert "\n" not in str(caught.value)
    with pytest.raises(ImageError, match="compressed RLE"):
        find_objects([coco(tmp_path / "c", {"counts": "ab3", "size": list(SIZE)})])
    with pytest.raises(ImageError, match="is no COCO file"):
        find_objects([tmp_path / "nowhere.json"])


def items(count: int, dataset: str = "set") -> list[SegmentedObject]:
    """Two objects an image."""
    return [SegmentedObject(Path(dataset) / f"{i // 2}.png", None, i, dataset) for i in range(2 * count)]


def test_the_split_is_by_image_and_lasts() -> None:
    everything = items(400)
    train, held = split_by_image(everything, 0.15)
    assert len(train) + len(held) == len(everything)
    assert {o.image_path for o in train}.isdisjoint(o.image_path for o in held)
    assert 0.10 < len(held) / len(everything) < 0.20
    # images that come or go leave the others where they were
    fewer = split_by_image(everything[100:], 0.15)[1]
    assert fewer == [o for o in held if o in everything[100:]]


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("validation", [0.01, 0.15, 0.99])
def test_two_images_are_enough_for_both_sides(count: int, validation: float) -> None:
    train, held = split_by_image(items(count), validation)
    assert train and held
    assert {o.image_path for o in train}.isdisjoint(o.image_path for o in held)


def test_one_image_can_not_be_split() -> None:
    train, held = split_by_image(items(1), 0.15)
    assert not (train and held)
