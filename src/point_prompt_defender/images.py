"""Read images and masks from any file that Pillow opens, into the one form that the rest of the package takes."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from .errors import ImageError
from .io.files import replace_atomically

MAX_PIXELS = 120_000_000

_WHITE = (255, 255, 255, 255)


def load_image(path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Read an image as the eye would see it.

    The EXIF rotation is applied; transparent pixels are laid on white; palette, grey, black-and-white and CMYK images
    become RGB; 16-bit grey is divided by 257, so that its full range stays the full range; other integers and floats
    are taken as they are where they lie in 0..1, else stretched from their smallest to their largest finite value.
    Of several frames or pages the first is read.

    Args:
        path: the file.
        max_pixels: the largest image taken, so that a small file can't fill the memory. Pillow's own limit of 179
            million pixels stays.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ImageError: missing, not an image, damaged, or too large.
    """
    picture = _open(path, max_pixels)
    if "transparency" in picture.info or picture.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, _WHITE), picture)
    elif picture.mode.startswith("I") or picture.mode == "F":
        picture = Image.fromarray(_as_bytes(np.asarray(picture), path))
    return np.array(picture.convert("RGB"))


def load_mask(
    path: str | os.PathLike[str], image_size: tuple[int, int] | None = None, max_pixels: int = MAX_PIXELS
) -> NDArray[np.bool_] | NDArray[np.int64]:
    """Read a mask.

    Args:
        path: a grey, 16-bit, palette (its indices count) or black-and-white image, or an RGB one whose three channels
            are equal. The EXIF rotation is applied, as for images.
        image_size: (height, width) of the image that it belongs to, checked where given.
        max_pixels: as for `load_image`.

    Returns:
        (H, W) bool where the file holds 0 and at most one other value; otherwise an instance map (H, W) int64,
        0 = background.

    Raises:
        ImageError: unreadable, of another size than the image, or in colours.
    """
    picture = _open(path, max_pixels)
    values = np.asarray(picture)
    if values.ndim == 3:
        colours = values[..., : 1 if picture.mode in ("LA", "PA", "La") else 3]
        if (colours != colours[..., :1]).any():
            raise ImageError(f"The mask {path} is in colours; save it as grey values, 0 for the background.")
        values = colours[..., 0]
    if image_size is not None and values.shape != tuple(image_size):
        (height, width), (tall, wide) = values.shape, image_size
        raise ImageError(
            f"The mask {path} has {width} x {height} pixels but its image {wide} x {tall}; give the mask of this image."
        )
    if values.dtype.kind == "f" and not (np.isfinite(values).all() and (values == np.round(values)).all()):
        raise ImageError(f"The mask {path} holds fractions; save it as whole numbers, 0 for the background.")
    if np.unique(values[values != 0]).size <= 1:
        return values != 0
    return values.astype(np.int64)


def save_mask(path: str | os.PathLike[str], mask: NDArray[np.bool_] | NDArray[np.integer]) -> None:
    """Write a mask (H, W) as PNG, whole or not at all: bool as 0 and 255, an instance map as 8 or 16 bits.

    Raises:
        ImageError: an instance number that a PNG can't hold (below 0 or above 65535), or an empty array.
    """
    mask = np.asarray(mask)
    if mask.ndim != 2 or mask.size == 0:
        raise ImageError(f"A mask must be a (height, width) array with at least one pixel, but has shape {mask.shape}.")
    if mask.dtype == bool:
        values = mask.astype(np.uint8) * 255
    elif mask.min() < 0 or mask.max() > 65535:
        raise ImageError("A mask's instance numbers must lie in 0..65535; renumber the instances.")
    else:
        values = mask.astype(np.uint8 if mask.max() < 256 else np.uint16)
    save_image(path, Image.fromarray(values))


def save_image(path: str | os.PathLike[str], picture: Image.Image) -> None:
    """Write a picture as PNG, whatever the name's ending, whole or not at all."""
    with replace_atomically(path) as temporary:
        picture.save(temporary, format="PNG")


def _open(path: str | os.PathLike[str], max_pixels: int) -> Image.Image:
    """Open, check the size before decoding, decode, and rotate as the EXIF data say."""
    path = Path(path).expanduser()
    if path.is_dir():
        raise ImageError(f"{path} is a folder; give an image file.")
    try:
        if path.is_file() and path.stat().st_size == 0:
            raise ImageError(f"The image {path} is empty (0 bytes); get the file again.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large sizes and odd metadata: what matters raises
            with Image.open(path) as file:
                width, height = file.size
                if width * height > max_pixels:
                    raise Image.DecompressionBombError
                file.load()
                return ImageOps.exif_transpose(file)
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError(f"There is no image {path}; check the name.") from None
    except PermissionError:
        raise ImageError(f"The image {path} may not be read; change its permissions.") from None
    except Image.DecompressionBombError:
        raise ImageError(
            f"The image {path} has more than {max_pixels / 1e6:g} million pixels; make it smaller first."
        ) from None
    except Image.UnidentifiedImageError:
        raise ImageError(f"{path} is not an image that can be read; give a PNG, JPEG or TIFF file.") from None
    except (
        Exception
    ) as error:  # on damaged files Pillow's readers raise nearly anything, from SyntaxError to struct.error
        reason = str(error).rstrip(".") or type(error).__name__
        raise ImageError(f"The image {path} is damaged or cut short ({reason}); get the file again.") from None


def _as_bytes(values: NDArray[np.generic], path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Grey values of any range (H, W) -> uint8; see `load_image` for the rule."""
    numbers = values.astype(np.float64)
    finite = numbers[np.isfinite(numbers)]
    if finite.size == 0:
        raise ImageError(f"The image {path} holds no finite value; export it again.")
    low, high = float(finite.min()), float(finite.max())
    if values.dtype.kind in "iu" and low >= 0 and high <= 65535:
        low, high = 0.0, 65535.0
    elif low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    scaled = (np.nan_to_num(numbers, nan=low, posinf=high, neginf=low) - low) * (255 / max(high - low, 1e-12))
    return np.round(scaled).astype(np.uint8)
