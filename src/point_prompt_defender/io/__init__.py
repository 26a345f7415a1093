"""Points from files and results to files. One internal order everywhere: (x, y), pixels of the original image.

A format of points is a module of this package with
    NAME        what people call it
    EXTENSIONS  endings of its files, lower case, with the dot
    matches(text) -> bool                 whether a file's text looks like it
    read(text) -> (coords, labels)        (N, 2) and (N,) lists; PromptError names the line or field
and a place in FORMATS. Several formats may share an ending: then the text decides.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from ..errors import PromptError
from ..prompts import PointPrompts
from . import csv_points, json_points
from .json_points import result_as_dict, write_points, write_result

__all__ = ["FORMATS", "read_points", "result_as_dict", "write_points", "write_result"]

FORMATS: tuple[ModuleType, ...] = (json_points, csv_points)

# A point takes about 20 bytes; a larger file is some other thing, and would only fill the memory.
_MOST_BYTES = 50_000_000


def read_points(path: str | os.PathLike[str]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Read points and labels from a file; its ending and its content say in which format.

    Returns:
        coords (N, 2) float64 xy pixels of the original image, labels (N,) int64 in {0, 1}; at least one positive.
        Duplicates stay. Whether the points lie on the image is checked where the image is known.

    Raises:
        PromptError: missing, unreadable, in no known format or malformed; the sentence names file and line or field.
    """
    path = Path(path).expanduser()
    text = _text(path)
    try:
        prompts = PointPrompts.checked(*_format_of(path, text).read(text))
    except PromptError as error:
        raise PromptError(f"{path}: {error}") from None
    return prompts.coords, prompts.labels


def _text(path: Path) -> str:
    if path.is_dir():
        raise PromptError(f"{path} is a folder; give a file of points.")
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise PromptError(f"{path} is too large for a file of points ({_MOST_BYTES // 10**6} MB at most).")
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise PromptError(f"There is no file {path}; give the points as JSON or CSV.") from None
    except UnicodeDecodeError:
        raise PromptError(f"{path} is no text in UTF-8; give the points as JSON or CSV.") from None
    except OSError as error:
        raise PromptError(f"{path} can't be read ({error.strerror}); change its permissions or give another.") from None


def _format_of(path: Path, text: str) -> ModuleType:
    named = [f for f in FORMATS if path.suffix.lower() in f.EXTENSIONS]
    for known in (*named, *FORMATS):
        if known.matches(text):
            return known
    if named:
        return named[0]  # its reader says what is wrong
    raise PromptError(f"this is none of the known formats ({', '.join(f.NAME for f in FORMATS)}); convert the points.")
