"""Pictures of prompts and masks: what a person would rather look at than read.

Positive points are green discs with a plus, negative ones red diamonds with a minus, so that neither colour vision nor
size is needed to tell them apart; dropped points are pale and crossed out. The mask is blue with a white and dark rim.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from .prompts import POSITIVE, PointPrompts

# Okabe and Ito's palette, made for all kinds of colour vision.
_GREEN, _RED, _BLUE = (0, 158, 115), (213, 60, 0), (40, 130, 255)
_INK, _PAPER = (25, 25, 25), (255, 255, 255)

_FINER = 8  # markers are drawn so much larger and then shrunk: Pillow's own lines are not smooth


@dataclass(frozen=True, eq=False)
class Panel:
    """One picture of a figure.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        mask: (H, W) bool, or None.
        prompts: the points.
        keep: (N,) bool, the others are crossed out; None keeps all.
        caption: one line under the picture.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_] | None
    prompts: PointPrompts
    keep: NDArray[np.bool_] | None = None
    caption: str = ""


def draw(panel: Panel, width: int | None = None) -> Image.Image:
    """Draw the mask and the points over the image.

    Args:
        panel: what to draw; its caption is left to `figure`.
        width: of the picture in pixels, the height follows; None takes the image's own, but at least 480 and at most
            1600.

    Returns:
        An RGB picture.
    """
    tall, wide = panel.image.shape[:2]
    width = width or int(np.clip(wide, 480, 1600))
    height = max(1, round(tall * width / wide))
    picture = Image.fromarray(panel.image).resize((width, height), Image.Resampling.LANCZOS)
    if panel.mask is not None:
        picture = _tint(picture, panel.mask)
    size = _marker_size(width, height)
    keep = np.ones(len(panel.prompts), bool) if panel.keep is None else panel.keep
    for kept in (True, False):  # the dropped ones on top: they are what the picture is about
        for positive in (True, False):
            marker = _marker(positive, kept, size)
            for x, y in panel.prompts.coords[(keep == kept) & ((panel.prompts.labels == POSITIVE) == positive)]:
                at = (x + 0.5) * width / wide - marker.width / 2, (y + 0.5) * height / tall - marker.height / 2
                picture.paste(marker, (round(at[0]), round(at[1])), marker)
    return picture


def figure(rows: Sequence[Sequence[Panel]], titles: Sequence[str], width: int = 480) -> Image.Image:
    """Pictures in rows and columns, a title over each column, a caption under each picture, a legend at the foot.

    Args:
        rows: the panels, as many a row as there are titles.
        titles: of the columns.
        width: of one picture, pixels.

    Returns:
        An RGB picture.
    """
    gap, line = max(6, width // 40), max(16, width // 16)
    drawn = [[draw(panel, width) for panel in row] for row in rows]
    # Wide enough for the legend, also where there is one column only.
    total = max(len(titles) * (width + gap) + gap, 20 * line)
    heights = [max(picture.height for picture in row) + round(1.7 * line) for row in drawn]
    sheet = Image.new("RGB", (total, gap + round(1.5 * line) + sum(heights) + round(1.8 * line)), _PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(round(0.75 * line))
    lefts = [gap + column * (width + gap) for column in range(len(titles))]
    for left, title in zip(lefts, titles, strict=True):
        pen.text((left + width / 2, gap + line / 2), title, _INK, font, anchor="mm")
    top = gap + round(1.5 * line)
    for row, pictures, height in zip(rows, drawn, heights, strict=True):
        for left, panel, picture in zip(lefts, row, pictures, strict=True):
            sheet.paste(picture, (left, top))
            pen.text((left + width / 2, top + picture.height + 0.6 * line), panel.caption, _INK, font, anchor="mm")
        top += height
    _legend(sheet, gap, top + round(0.8 * line), line, font)
    return sheet


def _marker_size(width: int, height: int) -> int:
    """Side of a marker in pixels: legible on any picture, small enough for a hundred points."""
    return max(9, round(0.036 * (width * height) ** 0.5))


def _tint(picture: Image.Image, mask: NDArray[np.bool_]) -> Image.Image:
    """Lay a translucent colour over the mask (H, W), and a rim around it that shows on light and dark grounds."""
    grey = Image.fromarray(mask.astype(np.uint8) * 255).resize(picture.size, Image.Resampling.BILINEAR)
    inside = grey.point(lambda v: 255 if v >= 128 else 0)
    picture.paste(_BLUE, mask=inside.point(lambda v: 110 if v else 0))
    thick = max(3, 2 * (min(picture.size) // 300) + 1)
    grown = inside.filter(ImageFilter.MaxFilter(thick))
    picture.paste(_INK, mask=_difference(grown.filter(ImageFilter.MaxFilter(3)), grown))
    picture.paste(_PAPER, mask=_difference(grown, inside))
    return picture


def _difference(outer: Image.Image, inner: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(outer) & ~np.asarray(inner))


def _marker(positive: bool, kept: bool, size: int) -> Image.Image:
    """One marker, (size, size) RGBA."""
    side = size * _FINER
    tile = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    pen = ImageDraw.Draw(tile)
    alpha = 255 if kept else 190
    edge, colour = round(0.09 * side), (*(_GREEN if positive else _RED), alpha)
    low, middle, high = 0.06 * side, side / 2, 0.94 * side
    if positive:
        pen.ellipse([low, low, high, high], colour, (*_PAPER, alpha), edge)
    else:
        corners = [(middle, low), (high, middle), (middle, high), (low, middle)]
        pen.polygon(corners, colour, (*_PAPER, alpha), edge)
    sign = 0.2 * side
    pen.line([middle - sign, middle, middle + sign, middle], (*_PAPER, alpha), edge)
    if positive:
        pen.line([middle, middle - sign, middle, middle + sign], (*_PAPER, alpha), edge)
    if not kept:
        for stroke, thick in ((_PAPER, 0.17), (_INK, 0.09)):
            for ends in ([low, low, high, high], [low, high, high, low]):
                pen.line(ends, (*stroke, 255), round(thick * side))
    return tile.resize((size, size), Image.Resampling.LANCZOS)


def _legend(
    sheet: Image.Image, left: float, middle: float, line: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> None:
    """One line: each marker and what it means, centred on the height `middle`."""
    pen = ImageDraw.Draw(sheet)
    swatch = Image.new("RGBA", (line, round(0.7 * line)), (*_BLUE, 150))
    ImageDraw.Draw(swatch).rectangle([0, 0, swatch.width - 1, swatch.height - 1], outline=(*_INK, 255))
    entries = [
        ([_marker(True, True, line)], "positive"),
        ([_marker(False, True, line)], "negative"),
        ([_marker(True, False, line), _marker(False, False, line)], "dropped"),
        ([swatch], "mask"),
    ]
    for markers, text in entries:
        for marker in markers:
            sheet.paste(marker, (round(left), round(middle - marker.height / 2)), marker)
            left += marker.width + 0.2 * line
        pen.text((left, middle), text, _INK, font, anchor="lm")
        left += pen.textlength(text, font) + 0.8 * line
