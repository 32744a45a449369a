"""Rows of numbers as text, as ascii PLY, ascii PCD, XYZ and CSV have them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable
from typing import BinaryIO

import numpy as np

_CHUNK = 1 << 16


def parse_rows(lines: Iterable[str], columns: list[int], delimiter: str | None = None) -> np.ndarray:
    """Three columns of every line, float64 (n, 3); other columns need not be numbers.

    Raises:
        ValueError: a line has too few columns, or one of the three is no number.
    """
    with warnings.catch_warnings():
        # No line at all is for the caller to judge.
        warnings.simplefilter("ignore", UserWarning)
        points = np.loadtxt(lines, np.float64, comments="#", delimiter=delimiter, usecols=columns, ndmin=2)
    return points.reshape(-1, 3)


def write_rows(stream: BinaryIO, points: np.ndarray, tolerance: float, delimiter: str = " ") -> None:
    """Write points (n, 3), a line each.

    Floats have the fewest digits that give the same number again, or, with a
    ``tolerance`` above 0, as many decimals as keep the error below it.
    """
    spell: Callable[[float], str]
    if points.dtype.kind == "i":
        spell = str
    elif tolerance > 0:
        spell = f"{{:.{max(0, math.ceil(-math.log10(2 * tolerance)))}f}}".format
    else:
        spell = repr
    for start in range(0, len(points), _CHUNK):
        words = map(spell, points[start : start + _CHUNK].ravel().tolist())
        lines = map(delimiter.join, zip(words, words, words, strict=True))
        stream.write(("\n".join(lines) + "\n").encode())
