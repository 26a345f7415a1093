"""Points and results as JSON.

Points are `{"points": [[x, y], ...], "labels": [1, 0, ...]}`, or `{"points": [{"x": .., "y": .., "label": ..}, ...]}`,
or such a list of objects alone. A result file has the second form, so it can be read as points again: all of them,
the dropped ones too.
"""

from __future__ import annotations

import json
import math
import os
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import PromptError
from ..prompts import RefineResult
from .files import write_json

NAME = "JSON"
EXTENSIONS = (".json",)

_WANTED = '{"points": [[x, y], ...], "labels": [1, 0, ...]}'


def matches(text: str) -> bool:
    """Whether a text is a JSON object with "points", or a list."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, list) or (isinstance(value, dict) and "points" in value)


def read(text: str) -> tuple[list[list[float]], list[int]]:
    """Points (N, 2) xy and labels (N,) from a JSON text.

    Raises:
        PromptError: not JSON, or not of this form; the sentence names the line or the field.
    """
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise PromptError(f"line {error.lineno} is not JSON ({error.msg}); write {_WANTED}.") from None
    except (ValueError, RecursionError):
        raise PromptError(f"this JSON holds absurd numbers or nesting; write {_WANTED}.") from None
    points = value.get("points") if isinstance(value, dict) else value
    if not isinstance(points, list):
        raise PromptError(f'this JSON has no list "points"; write {_WANTED}.')
    labels = value.get("labels") if isinstance(value, dict) else None
    if labels is None:
        return _from_objects(points)
    if not isinstance(labels, list) or len(labels) != len(points):
        count = len(labels) if isinstance(labels, list) else "no list of"
        raise PromptError(f'"labels" needs one label a point: {len(points)} points, but {count} labels.')
    coords = [_pair(point, f"points[{i}]") for i, point in enumerate(points)]
    return coords, [_label(label, f"labels[{i}]") for i, label in enumerate(labels)]


def write_points(path: str | os.PathLike[str], coords: ArrayLike, labels: ArrayLike) -> None:
    """Write points (N, 2) xy and labels (N,) as JSON, whole or not at all."""
    points, marks = np.asarray(coords, np.float64), np.asarray(labels, np.int64)
    write_json(path, {"points": points.tolist(), "labels": marks.tolist()})


def result_as_dict(
    result: RefineResult, coords: ArrayLike, labels: ArrayLike, *, masks: bool = True, **about: Any
) -> dict[str, Any]:
    """A result as plain values for JSON.

    Args:
        result: what `refine` gave.
        coords, labels: the (N, 2) xy and (N,) that it was given.
        masks: include both masks, as uncompressed COCO run lengths `{"size": [H, W], "counts": [...]}`: column by
            column, starting with a run of background.
        about: further entries, put first (the image's name, the settings).

    Returns:
        The fields of `result`, and under "points" one object a point: x, y, label, kept, q (null where the defender
        put no value on dropping it), reason ("" for kept points).
    """
    xy, marks = np.asarray(coords, np.float64).tolist(), np.asarray(labels, np.int64).tolist()
    q_values = [float(q) if math.isfinite(q) else None for q in result.q_values]
    keep = np.asarray(result.keep, bool).tolist()
    rows = zip(xy, marks, keep, q_values, result.reasons, strict=True)
    fields: dict[str, Any] = {
        **about,
        "points": [
            {"x": x, "y": y, "label": label, "kept": kept, "q": q, "reason": reason}
            for (x, y), label, kept, q, reason in rows
        ],
        "keep": keep,
        "q_values": q_values,
        "removal_order": [int(i) for i in result.removal_order],
        "reasons": list(result.reasons),
        "predicted_iou": float(result.predicted_iou),
        "predicted_iou_before": float(result.predicted_iou_before),
        "timings": {name: float(value) for name, value in result.timings.items()},
    }
    if masks:
        fields |= {"mask": _run_lengths(result.mask), "mask_before": _run_lengths(result.mask_before)}
    return fields


def write_result(
    path: str | os.PathLike[str], result: RefineResult, coords: ArrayLike, labels: ArrayLike, **about: Any
) -> None:
    """Write a result, masks included, as JSON, whole or not at all; see `result_as_dict`."""
    write_json(path, result_as_dict(result, coords, labels, **about))


def _from_objects(points: list[Any]) -> tuple[list[list[float]], list[int]]:
    coords, labels = [], []
    for index, point in enumerate(points):
        where = f"points[{index}]"
        if not isinstance(point, dict):
            raise PromptError(f'{where} has no label: add "labels", or write {{"x": .., "y": .., "label": ..}}.')
        missing = [key for key in ("x", "y", "label") if key not in point]
        if missing:
            raise PromptError(f'{where} has no "{missing[0]}"; give every point x, y and label.')
        coords.append([_number(point["x"], f"{where}.x"), _number(point["y"], f"{where}.y")])
        labels.append(_label(point["label"], f"{where}.label"))
    return coords, labels


def _pair(point: Any, where: str) -> list[float]:
    if not isinstance(point, list) or len(point) != 2:
        raise PromptError(f"{where} must be [x, y], two numbers, but is {_short(point)}.")
    return [_number(point[0], f"{where}[0]"), _number(point[1], f"{where}[1]")]


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise PromptError(f"{where} must be a number of pixels, but is {_short(value)}.")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise PromptError(f"{where} must be a finite number of pixels, but is {_short(value)}.")
    return number


def _label(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value not in (0, 1):
        raise PromptError(f"{where} must be 1 (positive) or 0 (negative), but is {_short(value)}.")
    return int(value)


def _short(value: Any) -> str:
    """A value as the file has it, cut where it is long."""
    text = json.dumps(value) if not isinstance(value, int) or abs(value) < 10**20 else "a huge number"
    return text if len(text) <= 40 else text[:37] + "..."


def _run_lengths(mask: NDArray[np.bool_]) -> dict[str, list[int]]:
    flat = np.asarray(mask, bool).ravel(order="F")
    ends = np.append(np.flatnonzero(flat[1:] != flat[:-1]) + 1, flat.size)
    counts = np.diff(ends, prepend=0).tolist()
    return {"size": list(mask.shape), "counts": [0, *counts] if flat.size and flat[0] else counts}
