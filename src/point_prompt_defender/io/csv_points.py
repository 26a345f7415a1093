"""Points as CSV: a header with x, y and label, in any order and beside other columns; one point a line."""

from __future__ import annotations

import csv
import math

from ..errors import PromptError

NAME = "CSV"
EXTENSIONS = (".csv", ".tsv", ".txt")

_COLUMNS = ("x", "y", "label")
_SEPARATORS = ",;\t"


def matches(text: str) -> bool:
    """Whether a text begins with a header that names x, y and label."""
    return all(_columns(text)[1].count(name) == 1 for name in _COLUMNS)


def read(text: str) -> tuple[list[list[float]], list[int]]:
    """Points (N, 2) xy and labels (N,) from a CSV text, separated by comma, semicolon or tab.

    Raises:
        PromptError: no such header, or a value that is no number or label; the sentence names the line.
    """
    separator, header = _columns(text)
    for name in _COLUMNS:
        if header.count(name) != 1:
            found = "no column" if name not in header else "several columns"
            raise PromptError(f"line 1 names {found} {name!r}; begin the file with the header x,y,label.")
    at = {name: header.index(name) for name in _COLUMNS}
    coords, labels = [], []
    rows = csv.reader(text.splitlines(), delimiter=separator, strict=True)
    try:
        for number, row in enumerate(rows):
            if number == 0 or not "".join(row).strip():
                continue
            where = f"line {rows.line_num}"
            if len(row) <= max(at.values()):
                raise PromptError(f"{where} has {len(row)} of {len(header)} columns; give every point x, y and label.")
            x, y = (_number(row[at[name]], f"{where}, {name},") for name in ("x", "y"))
            coords.append([x, y])
            label = _number(row[at["label"]], f"{where}, label,")
            if label not in (0, 1):
                raise PromptError(f"{where}, label, must be 1 (positive) or 0 (negative), but is {label:g}.")
            labels.append(int(label))
    except csv.Error as error:
        raise PromptError(f"line {rows.line_num} is no CSV ({error}); write one x,y,label a line.") from None
    return coords, labels


def _columns(text: str) -> tuple[str, list[str]]:
    """The separator and the names in the first line, lower case."""
    first = text[:1000].splitlines()[0] if text.strip() else ""
    separator = max(_SEPARATORS, key=first.count)
    return separator, [name.strip().strip("\"'").lower() for name in first.split(separator)]


def _number(text: str, where: str) -> float:
    try:
        if "_" in text:  # Python reads 1_000 as a number; nobody's table means that
            raise ValueError
        number = float(text)
    except ValueError:
        raise PromptError(f"{where} must be a number, but is {text.strip()[:40]!r}.") from None
    if not math.isfinite(number):
        raise PromptError(f"{where} must be a finite number, but is {text.strip()[:40]!r}.")
    return number
