"""Training data: folders of images and masks, or a COCO file, as single objects; split by image."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import ImageError
from ..images import load_image, load_mask

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp"}


@dataclass(frozen=True)
class SegmentedObject:
    """One object of one image; nothing is loaded until asked for.

    Attributes:
        image_path: the image.
        source: the mask file, or the COCO annotation's polygons or RLE.
        instance: value of the object in the mask file; -1 for "not background" (a binary or class mask).
        dataset: name of the folder, for reports.
    """

    image_path: Path
    source: Any
    instance: int
    dataset: str

    def image(self) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB."""
        return load_image(self.image_path)

    def mask(self) -> NDArray[np.bool_]:
        """(H, W) bool."""
        if isinstance(self.source, Path):
            values = load_mask(self.source)
            return values != 0 if self.instance < 0 else values == self.instance
        return _coco_mask(self.source)


def refuse(problem: str) -> NoReturn:
    """What `find_objects` does with a file that can't be used, unless told otherwise."""
    raise ImageError(problem)


def find_objects(
    folders: Sequence[str | os.PathLike[str]],
    smallest: float = 0.005,
    largest: float = 0.6,
    merge: tuple[str, ...] = (),
    on_problem: Callable[[str], object] = refuse,
) -> list[SegmentedObject]:
    """All objects of a usable size in data folders.

    A folder holds images/ and masks/ with the same stems, masks binary or integer instance maps; or is a COCO json
    file beside its images. A mask of more than one value other than 0 is an instance map, unless its folder's name is
    in `merge`: then all values are one object. Images without a mask are left out.

    Every image is decoded here once, and every mask compared with its image, so that a damaged file is found now and
    not hours into a run.

    Args:
        folders: data folders or COCO files.
        smallest, largest: share of the image that an object must cover.
        merge: names of folders whose masks are class maps.
        on_problem: told, in one sentence that names the file, of each image or mask that can't be used; its objects
            are then left out. Raises ImageError by default.

    Raises:
        ImageError: a folder is not of this form, or holds no usable object.
    """
    objects: list[SegmentedObject] = []
    for folder in map(Path, folders):
        problems: list[str] = []

        def note(problem: str, problems: list[str] = problems) -> None:
            problems.append(problem)
            on_problem(problem)

        read = _from_coco if folder.suffix == ".json" else _from_folder
        found = read(folder, folder.resolve().name in merge, note)
        kept = [o for o, share in found if smallest <= share <= largest]
        if not kept:
            many = f"{len(problems)} file{'s' if len(problems) > 1 else ''}"
            why = f" ({many} can't be used: {problems[0].rstrip('.')})" if problems else ""
            raise ImageError(
                f"No object of {smallest:.1%} to {largest:.0%} of its image was found in {folder}{why}; give data with "
                "such objects."
            )
        objects += kept
    return objects


def split_by_image(
    objects: list[SegmentedObject], validation: float = 0.15
) -> tuple[list[SegmentedObject], list[SegmentedObject]]:
    """Training and validation objects; all objects of one image fall on one side, by a hash of the file's name.

    Where the hashes of few images all fall on one side, the first or last in their order changes it, so that two
    images are enough for both.
    """
    digests = {
        item.image_path: hashlib.sha256(f"{item.dataset}/{item.image_path.stem}".encode()).digest() for item in objects
    }
    held_out = {path for path, digest in digests.items() if digest[0] / 256 < validation}
    if len(digests) > 1 and not held_out:
        held_out = {min(digests, key=lambda path: digests[path])}
    elif len(digests) > 1 and len(held_out) == len(digests):
        held_out.remove(max(digests, key=lambda path: digests[path]))
    train = [item for item in objects if item.image_path not in held_out]
    return train, [item for item in objects if item.image_path in held_out]


Found = list[tuple[SegmentedObject, float]]  # objects, each with the share of its image that it covers


def _from_folder(folder: Path, merge: bool, note: Callable[[str], object]) -> Found:
    images, masks = folder / "images", folder / "masks"
    if not images.is_dir() or not masks.is_dir():
        raise ImageError(f"{folder} is no data folder: it needs images/ and masks/ with files of the same stems.")
    name = folder.resolve().name
    by_stem = {p.stem: p for p in _pictures(masks)}
    found: Found = []
    for path in _pictures(images):
        mask = by_stem.get(path.stem)
        if mask is None:
            continue
        try:
            values = load_mask(mask, load_image(path).shape[:2])
        except ImageError as error:
            note(str(error))
            continue
        numbers, counts = np.unique(values, return_counts=True)
        shares = {int(n): c / counts.sum() for n, c in zip(numbers, counts, strict=True) if n != 0}
        if merge or len(shares) == 1:
            shares = {-1: sum(shares.values())}
        found += [(SegmentedObject(path, mask, n, name), share) for n, share in shares.items()]
    return found


def _pictures(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith("."))


def _from_coco(path: Path, _merge: bool, note: Callable[[str], object]) -> Found:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        images = {
            i["id"]: (_coco_image(path.parent, i["file_name"]), (i["height"], i["width"])) for i in content["images"]
        }
        found: Found = []
        for annotation in content["annotations"]:
            file, size = images[annotation["image_id"]]
            source = {"segmentation": annotation["segmentation"], "size": size}
            item = SegmentedObject(file, source, int(annotation["id"]), path.stem)
            found.append((item, float(_coco_mask(source).mean())))
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        reason = error if isinstance(error, ValueError) else repr(error)
        raise ImageError(
            f"{path} is no COCO file that can be used ({reason}); it needs images and annotations with polygons or "
            "uncompressed RLE."
        ) from None
    sound = {file for file, size in images.values() if _fits(file, size, note)}
    return [(item, share) for item, share in found if item.image_path in sound]


def _coco_image(folder: Path, name: str) -> Path:
    return next((p for p in (folder / name, folder / "images" / name) if p.exists()), folder / name)


def _fits(file: Path, size: tuple[int, int], note: Callable[[str], object]) -> bool:
    """Whether an image of a COCO file can be read and has the size that the file says."""
    try:
        actual = load_image(file).shape[:2]
    except ImageError as error:
        note(str(error))
        return False
    if actual != size:
        note(f"The image {file} has {actual[1]} x {actual[0]} pixels but {size[1]} x {size[0]} in the COCO file.")
    return actual == size


def _coco_mask(source: dict[str, Any]) -> NDArray[np.bool_]:
    from PIL import ImageDraw

    height, width = source["size"]
    segmentation = source["segmentation"]
    if isinstance(segmentation, dict):
        counts = segmentation["counts"]
        if isinstance(counts, str):
            raise ValueError("it has compressed RLE")
        values = np.repeat(np.arange(len(counts)) % 2, counts).astype(bool)
        return values.reshape(width, height).T  # RLE runs down the columns
    canvas = Image.new("1", (width, height))
    for polygon in segmentation:
        ImageDraw.Draw(canvas).polygon([(x, y) for x, y in zip(polygon[::2], polygon[1::2], strict=True)], fill=1)
    return np.asarray(canvas)
