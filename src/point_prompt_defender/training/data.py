"""Training data: folders of images and masks, or a COCO file, as single objects; split by image."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import ImageError

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
        from ..images import load_image

        return load_image(self.image_path)

    def mask(self) -> NDArray[np.bool_]:
        """(H, W) bool."""
        if isinstance(self.source, Path):
            values = read_instances(self.source)
            return values > 0 if self.instance < 0 else values == self.instance
        return _coco_mask(self.source)


def read_instances(path: Path) -> NDArray[np.int64]:
    """A mask file (H, W) as integers, 0 background.

    Raises:
        ImageError: it can't be read.
    """
    try:
        with Image.open(path) as file:
            array = np.asarray(file)
    except (OSError, ValueError, SyntaxError) as error:
        raise ImageError(f"The mask {path} can't be read ({error}); give a PNG of integers, 0 for background.") from None
    return (array[..., 0] if array.ndim == 3 else array).astype(np.int64)


def find_objects(
    folders: list[str | os.PathLike[str]], smallest: float = 0.005, largest: float = 0.6, merge: tuple[str, ...] = ()
) -> list[SegmentedObject]:
    """All objects of a usable size in data folders.

    A folder holds images/ and masks/ with the same stems, masks binary or integer instance maps; or is a COCO json
    file beside its images. A mask of more than one value other than 0 is an instance map, unless its folder's name is
    in `merge`: then all values are one object.

    Args:
        folders: data folders or COCO files.
        smallest, largest: share of the image that an object must cover.
        merge: names of folders whose masks are class maps.

    Raises:
        ImageError: a folder is not of this form, or holds no usable object.
    """
    objects: list[SegmentedObject] = []
    for folder in map(Path, folders):
        found = _from_coco(folder) if folder.suffix == ".json" else _from_folder(folder, folder.name in merge)
        kept = [o for o, share in found if smallest <= share <= largest]
        if not kept:
            raise ImageError(f"No object of {smallest:.1%} to {largest:.0%} of its image was found in {folder}.")
        objects += kept
    return objects


def split_by_image(
    objects: list[SegmentedObject], validation: float = 0.15
) -> tuple[list[SegmentedObject], list[SegmentedObject]]:
    """Training and validation objects; all objects of one image fall on one side, by a hash of the file's name."""
    train, held = [], []
    for item in objects:
        digest = hashlib.sha256(f"{item.dataset}/{item.image_path.stem}".encode()).digest()
        (held if digest[0] / 256 < validation else train).append(item)
    return train, held


def _from_folder(folder: Path, merge: bool) -> list[tuple[SegmentedObject, float]]:
    images, masks = folder / "images", folder / "masks"
    if not images.is_dir() or not masks.is_dir():
        raise ImageError(f"{folder} is no data folder: it needs images/ and masks/ with files of the same stems.")
    by_stem = {p.stem: p for p in sorted(masks.iterdir())}
    found = []
    for path in sorted(p for p in images.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES):
        if path.stem not in by_stem:
            continue
        mask = by_stem[path.stem]
        values, counts = np.unique(read_instances(mask), return_counts=True)
        shares = {int(v): c / counts.sum() for v, c in zip(values, counts, strict=True) if v != 0}
        if merge or len(shares) == 1:
            shares = {-1: sum(shares.values())}
        found += [(SegmentedObject(path, mask, v, folder.name), share) for v, share in shares.items()]
    return found


def _from_coco(path: Path) -> list[tuple[SegmentedObject, float]]:
    try:
        content = json.loads(path.read_text())
        images = {i["id"]: i for i in content["images"]}
        found = []
        for note in content["annotations"]:
            image = images[note["image_id"]]
            source = {"segmentation": note["segmentation"], "size": (image["height"], image["width"])}
            file = next(
                (p for p in (path.parent / image["file_name"], path.parent / "images" / image["file_name"]) if p.exists()),
                path.parent / image["file_name"],
            )
            item = SegmentedObject(file, source, int(note["id"]), path.stem)
            found.append((item, float(_coco_mask(source).mean())))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ImageError(f"{path} is no COCO file with images and annotations ({error!r}).") from None
    return found


def _coco_mask(source: dict[str, Any]) -> NDArray[np.bool_]:
    from PIL import ImageDraw

    height, width = source["size"]
    segmentation = source["segmentation"]
    if isinstance(segmentation, dict):
        counts = segmentation["counts"]
        if isinstance(counts, str):
            raise ValueError("compressed RLE; convert it with pycocotools to polygons or uncompressed counts")
        values = np.repeat(np.arange(len(counts)) % 2, counts).astype(bool)
        return values.reshape(width, height).T  # RLE runs down the columns
    canvas = Image.new("1", (width, height))
    for polygon in segmentation:
        ImageDraw.Draw(canvas).polygon([(x, y) for x, y in zip(polygon[::2], polygon[1::2], strict=True)], fill=1)
    return np.asarray(canvas)
