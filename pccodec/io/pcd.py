"""PCD files of the Point Cloud Library: ascii, binary and binary_compressed."""

from __future__ import annotations

import io
import itertools
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from pccodec.errors import InputError
from pccodec.io import lzf
from pccodec.io.rows import parse_rows
from pccodec.io.spec import storage_dtype

logger = logging.getLogger(__name__)

_TYPES = {f"{kind}{size}": f"<{kind.lower()}{size}" for kind in "IU" for size in (1, 2, 4, 8)}
_TYPES |= {"F4": "<f4", "F8": "<f8"}

_MAX_HEADER_LINES = 1000


@dataclass(frozen=True)
class _Header:
    names: list[str]
    types: list[str]  # numpy codes such as "<f4", one a field
    counts: list[int]  # values a field
    points: int
    encoding: str

    def axes(self) -> list[int]:
        """Positions of x, y and z among the fields."""
        if not all(axis in self.names for axis in "xyz"):
            raise InputError("the PCD file has no fields x, y, z")
        found = [self.names.index(axis) for axis in "xyz"]
        if any(self.counts[index] != 1 for index in found):
            raise InputError("the PCD fields x, y, z hold more than one value a point")
        return found


def read_pcd(stream: BinaryIO) -> tuple[Iterable[np.ndarray], tuple[str, ...]]:
    """Coordinates, as one block (n, 3), and the names of the fields skipped.

    PCD marks pixels of a depth image without a measurement by NaN: such points are
    left out, with a warning that says how many.

    Raises:
        InputError: not PCD, no coordinates, damaged, or the file ends early.
    """
    header = _read_header(stream)
    axes = header.axes()
    points = _READERS[header.encoding](stream, header, axes)
    # The minimum is NaN if anything is, and quickly found.
    if points.dtype.kind == "f" and points.size and np.isnan(points.min()):
        missing = np.isnan(points).any(axis=1)
        logger.warning("%d of %d points are NaN (not measured) and left out", missing.sum(), len(points))
        points = points[~missing]
    skipped = [name for index, name in enumerate(header.names) if index not in axes and name != "_"]
    return [points], tuple(skipped)


def write_pcd(stream: BinaryIO, points: np.ndarray, tolerance: float) -> None:
    """Write points (n, 3) in the binary encoding, as floats of 4 bytes, or 8 if ``tolerance`` asks for it."""
    dtype = storage_dtype(points, tolerance)
    size = dtype.itemsize
    header = (
        "# .PCD v0.7 - Point Cloud Data file format\nVERSION 0.7\nFIELDS x y z\n"
        f"SIZE {size} {size} {size}\nTYPE F F F\nCOUNT 1 1 1\nWIDTH {len(points)}\nHEIGHT 1\n"
        f"VIEWPOINT 0 0 0 1 0 0 0\nPOINTS {len(points)}\nDATA binary\n"
    )
    stream.write(header.encode())
    stream.write(points.astype(dtype.newbyteorder("<"), order="C").data)


def _read_header(stream: BinaryIO) -> _Header:
    entries: dict[str, list[str]] = {}
    for _ in range(_MAX_HEADER_LINES):
        line = stream.readline(65536)
        if not line:
            break
        key, *words = line.decode("latin-1").partition("#")[0].split() or [""]
        entries[key.upper()] = words
        if key.upper() == "DATA":
            break
    missing = {"FIELDS", "SIZE", "TYPE", "DATA"} - entries.keys()
    if missing:
        raise InputError(f"not a PCD file: its header has no {', '.join(sorted(missing))}")
    names = entries["FIELDS"]
    counts = [int(word) for word in entries.get("COUNT", ["1"] * len(names))]
    sizes = [int(word) for word in entries["SIZE"]]
    kinds = entries["TYPE"]
    if not len(names) == len(counts) == len(sizes) == len(kinds) or min(counts, default=0) < 1:
        raise InputError("the PCD header contradicts itself: FIELDS, SIZE, TYPE and COUNT")
    types = [_TYPES[f"{kind}{size}"] for kind, size in zip(kinds, sizes, strict=True)]
    if "POINTS" in entries:
        points = int(entries["POINTS"][0])
    else:
        points = int(entries["WIDTH"][0]) * int(entries["HEIGHT"][0])
    encoding = entries["DATA"][0] if entries["DATA"] else ""
    if encoding not in _READERS or points < 0:
        raise InputError(f"unknown PCD encoding {encoding!r}")
    return _Header(names, types, counts, points, encoding)


def _early_end(header: _Header, rows: int) -> InputError:
    return InputError(f"the file ends early: {rows} of {header.points} points")


def _read_ascii(stream: BinaryIO, header: _Header, axes: list[int]) -> np.ndarray:
    first = np.cumsum([0, *header.counts])
    lines = (line.decode("latin-1") for line in stream if not line.isspace())
    columns = [int(first[axis]) for axis in axes]
    points = parse_rows(itertools.islice(lines, header.points), columns)
    if len(points) < header.points:
        raise _early_end(header, len(points))
    return points


def _read_binary(stream: BinaryIO, header: _Header, axes: list[int]) -> np.ndarray:
    fields = zip(header.types, header.counts, strict=True)
    dtype = np.dtype([(f"{i}", type_, (count,)) for i, (type_, count) in enumerate(fields)])
    start = stream.tell()
    left = stream.seek(0, io.SEEK_END) - start
    stream.seek(start)
    # Checked before anything is allocated: the count in a header may be a lie.
    if header.points * dtype.itemsize > left:
        raise _early_end(header, left // dtype.itemsize)
    table = np.frombuffer(stream.read(header.points * dtype.itemsize), dtype)
    return np.concatenate([table[f"{axis}"] for axis in axes], axis=1)


def _read_compressed(stream: BinaryIO, header: _Header, axes: list[int]) -> np.ndarray:
    """Fields stand one after the other, each for all points, and are compressed together."""
    compressed, size = (int(number) for number in np.frombuffer(stream.read(8), "<u4"))
    data = stream.read(compressed)
    widths = [
        np.dtype(type_).itemsize * count for type_, count in zip(header.types, header.counts, strict=True)
    ]
    if len(data) < compressed or sum(widths) * header.points != size:
        raise InputError("the compressed data does not fit its header")
    raw = lzf.decompress(data, size)
    starts = np.cumsum([0, *widths]) * header.points
    columns = [np.frombuffer(raw, header.types[axis], header.points, int(starts[axis])) for axis in axes]
    return np.stack(columns, axis=1)


_READERS = {"ascii": _read_ascii, "binary": _read_binary, "binary_compressed": _read_compressed}
