"""Text with a point a line: XYZ, TXT, ASC, PTS and CSV."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import numpy as np

from pccodec.errors import InputError
from pccodec.io.rows import parse_rows, write_rows
from pccodec.io.spec import CloudSpec

_LINES = 1 << 18


def read_text(stream: BinaryIO) -> tuple[Iterable[np.ndarray], tuple[str, ...]]:
    """Coordinates, in blocks (n, 3), and what was skipped.

    Columns are separated by blanks, tabs, commas or semicolons. Lines before the
    first row may be empty, comments (``#`` or ``//``), the number of points, or
    column names; columns named x, y, z are the coordinates, else the first three.

    Raises:
        InputError: no rows, or fewer than three columns.
    """
    lines = (line.decode("utf-8", "replace") for line in stream)
    first, columns, names = _find_rows(lines)
    blocks = _blocks(itertools.chain([first], lines), columns, _delimiter(first))
    extra = len(_split(first)) - 3
    if not extra:
        return blocks, ()
    named = tuple(name for index, name in enumerate(names) if index not in columns)
    return blocks, named or (f"{extra} further columns",)


def _blocks(lines: Iterable[str], columns: list[int], delimiter: str | None) -> Iterator[np.ndarray]:
    lines = iter(lines)
    while some := list(itertools.islice(lines, _LINES)):
        yield parse_rows(some, columns, delimiter)


class TextWriter:
    """A point a line; CSV gets a line of names."""

    def __init__(self, stream: BinaryIO, spec: CloudSpec, delimiter: str = " ") -> None:
        self._stream = stream
        self._tolerance = spec.tolerance
        self._delimiter = delimiter
        if delimiter == ",":
            stream.write(b"x,y,z\n")

    def write(self, points: np.ndarray) -> None:
        """Append points (n, 3)."""
        write_rows(self._stream, points, self._tolerance, self._delimiter)

    def finish(self, count: int) -> None:
        """Nothing is left to do."""


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


def _find_rows(lines: Iterable[str]) -> tuple[str, list[int], list[str]]:
    """The first row, the columns of x, y and z, and the column names if any."""
    columns, names = [0, 1, 2], list[str]()
    named, is_empty = False, True
    for number, text in enumerate(lines):
        line = (text.removeprefix("\ufeff") if not number else text).strip()
        words = _split(line.lstrip("#/"))
        is_comment = line.startswith(("#", "//"))
        is_row = len(words) > max(columns) and all(_is_number(words[column]) for column in columns)
        if is_row and not is_comment:
            return line, columns, names
        # Some programs put the column names into a comment.
        lower = [word.lower() for word in words]
        if {"x", "y", "z"} <= set(lower):
            columns, names = [lower.index(axis) for axis in "xyz"], words
        is_count = len(words) == 1 and words[0].isdecimal()
        if line and not is_comment and not is_count:
            if named:
                break
            named = True
        is_empty = is_empty and not line
    raise InputError("the file is empty" if is_empty else "no row of three numbers")
