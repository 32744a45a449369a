"""Binary tables: rows of one size, a block at a time."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

_ROWS = 1 << 20
_BYTES = 1 << 26


def rows_left(stream: BinaryIO, row: int) -> int:
    """Whole rows of ``row`` bytes from here to the end: a count in a header may be a lie."""
    start = stream.tell()
    left = stream.seek(0, io.SEEK_END) - start
    stream.seek(start)
    return left // row


def read_table(stream: BinaryIO, dtype: np.dtype, count: int) -> Iterator[np.ndarray]:
    """The next ``count`` rows, which must be there, in blocks (n,) of at most 2^20 rows and about 64 MB."""
    most = max(1, min(_ROWS, _BYTES // dtype.itemsize))
    for start in range(0, count, most):
        rows = min(most, count - start)
        table = np.frombuffer(stream.read(rows * dtype.itemsize), dtype)
        if len(table) < rows:
            raise EOFError("the file became shorter while it was read")
        yield table
