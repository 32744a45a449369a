"""Text with a point a line: XYZ, TXT, ASC, PTS and CSV."""

from __future__ import annotations

import io
from typing import BinaryIO

import numpy as np

from pccodec.errors import InputError
from pccodec.io.rows import parse_rows, write_rows


def read_text(stream: BinaryIO) -> tuple[np.ndarray, tuple[str, ...]]:
    """Coordinates (n, 3), and what was skipped.

    Columns are separated by blanks, tabs, commas or semicolons. Lines before the
    first row may be empty, comments (``#`` or ``//``), the number of points, or
    column names; columns named x, y, z are the coordinates, else the first three.

    Raises:
        InputError: no rows, fewer than three columns, or something that is no number.
    """
    content = stream.read().decode("utf-8-sig", "replace")
    if not content.strip():
        raise InputError("the file is empty")
    start, first, columns, names = _find_rows(content)
    points = parse_rows(io.StringIO(content[start:]), columns, _delimiter(first))
    extra = len(_split(first)) - 3
    if not extra:
        return points, ()
    named = tuple(name for index, name in enumerate(names) if index not in columns)
    return points, named or (f"{extra} further columns",)


def write_text(stream: BinaryIO, points: np.ndarray, tolerance: float, delimiter: str = " ") -> None:
    """Write points (n, 3), a line each; CSV gets a line of names."""
    if delimiter == ",":
        stream.write(b"x,y,z\n")
    write_rows(stream, points, tolerance, delimiter)


def _split(line: str) -> list[str]:
    return [word.strip(' "') for word in line.split(_delimiter(line))]


def _delimiter(line: str) -> str | None:
    """The mark between columns, None for blanks; a comma beside semicolons would be a decimal comma."""
    return next((mark for mark in ";," if mark in line), None)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _find_rows(content: str) -> tuple[int, str, list[int], list[str]]:
    """Offset of the first row, the row, the columns of x, y and z, and the column names if any."""
    columns, names = [0, 1, 2], list[str]()
    named = False
    start = 0
    while start < len(content):
        end = content.find("\n", start)
        end = len(content) if end < 0 else end + 1
        line = content[start:end].strip()
        words = _split(line.lstrip("#/"))
        is_comment = line.startswith(("#", "//"))
        is_row = len(words) > max(columns) and all(_is_number(words[column]) for column in columns)
        if is_row and not is_comment:
            return start, line, columns, names
        # Some programs put the column names into a comment.
        lower = [word.lower() for word in words]
        if {"x", "y", "z"} <= set(lower):
            columns, names = [lower.index(axis) for axis in "xyz"], words
        is_count = len(words) == 1 and words[0].isdecimal()
        if line and not is_comment and not is_count:
            if named:
                break
            named = True
        start = end
    raise InputError("no row of three numbers")
