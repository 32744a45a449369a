"""PLY files: the coordinates of the ``vertex`` element, in any encoding and numeric type.

Only what is needed to reach the coordinates is parsed: elements after ``vertex``
(the faces of a mesh) are never read, and rows of fixed size are read in one piece.
That is why this is no call of a general PLY library, which reads all elements and
goes through ascii rows one by one.
"""

from __future__ import annotations

import io
import itertools
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np

from pccodec.errors import InputError
from pccodec.io.rows import parse_rows, write_rows
from pccodec.io.spec import CloudSpec
from pccodec.io.table import read_table, rows_left

# Type codes that mean the same to struct (with a byte order) and to numpy.
_TYPES = {
    "char": "b", "int8": "b", "uchar": "B", "uint8": "B",
    "short": "h", "int16": "h", "ushort": "H", "uint16": "H",
    "int": "i", "int32": "i", "uint": "I", "uint32": "I",
    "int64": "q", "uint64": "Q",
    "float": "f", "float32": "f", "double": "d", "float64": "d",
}  # fmt: skip

_BYTE_ORDERS = {"ascii": "=", "binary_little_endian": "<", "binary_big_endian": ">"}

_MAX_HEADER_LINES = 10_000

_LINES = 1 << 18  # rows of text that are parsed at a time

_COUNT_WIDTH = 20


@dataclass(frozen=True)
class _Property:
    name: str
    code: str
    length_code: str | None = None  # set for lists

    @property
    def is_list(self) -> bool:
        return self.length_code is not None


@dataclass
class _Element:
    name: str
    count: int
    properties: list[_Property] = field(default_factory=list)

    @property
    def has_lists(self) -> bool:
        return any(entry.is_list for entry in self.properties)

    def row_dtype(self, byte_order: str) -> np.dtype:
        """Structure of a row without lists; fields are numbered, names may repeat."""
        return np.dtype([(f"{i}", byte_order + entry.code) for i, entry in enumerate(self.properties)])

    def axes(self) -> list[int]:
        """Positions of x, y and z among the properties."""
        names = [None if entry.is_list else entry.name for entry in self.properties]
        for wanted in (("x", "y", "z"), ("X", "Y", "Z")):
            if all(name in names for name in wanted):
                return [names.index(name) for name in wanted]
        raise InputError("the vertex element has no properties x, y, z")


def read_ply(stream: BinaryIO) -> tuple[Iterable[np.ndarray], tuple[str, ...]]:
    """Coordinates, in blocks (n, 3), and the names of the properties and elements skipped.

    Rows with lists, and those of an element with lists before the coordinates, are held in memory as a whole.

    Raises:
        InputError: not PLY, no coordinates, or, while the blocks are read, the file ends early.
    """
    encoding, elements = _read_header(stream)
    names = [element.name for element in elements]
    if "vertex" not in names:
        raise InputError("the PLY file has no vertex element")
    before, vertex = elements[: names.index("vertex")], elements[names.index("vertex")]
    axes = vertex.axes()
    if encoding == "ascii":
        blocks = _read_ascii(stream, before, vertex, axes)
    else:
        blocks = _read_binary(stream, before, vertex, axes, _BYTE_ORDERS[encoding])
    skipped = [entry.name for index, entry in enumerate(vertex.properties) if index not in axes]
    others = [f"element {element.name}" for element in elements if element is not vertex and element.count]
    return blocks, tuple(skipped + others)


class PlyWriter:
    """Coordinates as ``float``, or as ``double`` where float32 would err by more than the tolerance."""

    def __init__(self, stream: BinaryIO, spec: CloudSpec, encoding: str = "binary_little_endian") -> None:
        self._stream = stream
        self._spec = spec
        self._encoding = encoding
        self._start = 0 if spec.total is not None else stream.tell()
        stream.write(self._header(spec.total or 0))

    def _header(self, count: int) -> bytes:
        kind = "float" if self._spec.storage == np.float32 else "double"
        lines = ["ply", f"format {self._encoding} 1.0"]
        if self._spec.total is None:
            # Padding, so that the count can be written over when it is known.
            lines.append("comment " + "." * (_COUNT_WIDTH - len(f"{count}")))
        lines += [f"element vertex {count}", *(f"property {kind} {axis}" for axis in "xyz"), "end_header"]
        return ("\n".join(lines) + "\n").encode()

    def write(self, points: np.ndarray) -> None:
        """Append points (n, 3)."""
        if self._encoding == "ascii":
            write_rows(self._stream, points, self._spec.tolerance)
        else:
            stored = np.dtype(_BYTE_ORDERS[self._encoding] + self._spec.storage.char)
            self._stream.write(points.astype(stored, order="C").data)

    def finish(self, count: int) -> None:
        """Write the number of points where it was not known."""
        if self._spec.total is None:
            self._stream.seek(self._start)
            self._stream.write(self._header(count))
            self._stream.seek(0, io.SEEK_END)


def _read_header(stream: BinaryIO) -> tuple[str, list[_Element]]:
    encoding = ""
    elements: list[_Element] = []
    if stream.readline(16).strip() != b"ply":
        raise InputError("not a PLY file")
    for _ in range(_MAX_HEADER_LINES):
        line = stream.readline(4096)
        match line.decode("latin-1").split():
            case ["end_header"]:
                if encoding not in _BYTE_ORDERS:
                    raise InputError(f"unknown PLY encoding {encoding!r}")
                return encoding, elements
            case ["format", name, _]:
                encoding = name
            case ["element", name, count] if count.isdecimal():
                elements.append(_Element(name, int(count)))
            case ["property", "list", length, kind, name] if elements and {length, kind} <= _TYPES.keys():
                if _TYPES[length] in "fd":
                    raise InputError(f"the PLY list {name} has a length that is no integer")
                elements[-1].properties.append(_Property(name, _TYPES[kind], _TYPES[length]))
            case ["property", kind, name] if elements and kind in _TYPES:
                elements[-1].properties.append(_Property(name, _TYPES[kind]))
            case ["comment" | "obj_info", *_]:
                pass
            case [] if line:
                pass
            case []:
                break
            case words:
                raise InputError(f"unknown line in the PLY header: {' '.join(words)[:80]}")
    raise InputError("the PLY header has no end")


def _early_end(element: _Element, rows: int) -> InputError:
    return InputError(f"the file ends early: {rows} of {element.count} rows of element {element.name}")


def _read_binary(
    stream: BinaryIO, before: list[_Element], vertex: _Element, axes: list[int], byte_order: str
) -> Iterator[np.ndarray]:
    for element in before:
        if element.has_lists:
            start, data = stream.tell(), stream.read()
            ends = [end for _, end in _rows_with_lists(data, element, byte_order)]
            stream.seek(start + (ends[-1] if ends else 0))
        else:
            row = _row_that_fits(stream, element, byte_order)
            stream.seek(element.count * row.itemsize, io.SEEK_CUR)
    if vertex.has_lists:
        rows = _rows_with_lists(stream.read(), vertex, byte_order)
        flat = itertools.chain.from_iterable([row[axis] for axis in axes] for row, _ in rows)
        yield np.fromiter(flat, np.float64).reshape(-1, 3)
        return
    dtype = _row_that_fits(stream, vertex, byte_order)
    common = np.result_type(*(dtype[axis] for axis in axes)).newbyteorder("=")
    for table in read_table(stream, dtype, vertex.count):
        points = np.empty((len(table), 3), common)
        for column, axis in enumerate(axes):
            points[:, column] = table[f"{axis}"]
        yield points


def _row_that_fits(stream: BinaryIO, element: _Element, byte_order: str) -> np.dtype:
    """Structure of the rows, of which there must be as many as the header says."""
    dtype = element.row_dtype(byte_order)
    # Rows without properties take no bytes.
    left = rows_left(stream, dtype.itemsize) if dtype.itemsize else element.count
    if element.count > left:
        raise _early_end(element, left)
    return dtype


def _rows_with_lists(data: bytes, element: _Element, byte_order: str) -> Iterator[tuple[list[float], int]]:
    """Each row, lists as their lengths, and the offset at which it ends."""
    scalars = {
        code: struct.Struct(byte_order + code)
        for entry in element.properties
        for code in (entry.code, entry.length_code)
        if code
    }
    offset = 0
    for done in range(element.count):
        row = []
        try:
            for entry in element.properties:
                scalar = scalars[entry.length_code or entry.code]
                (value,) = scalar.unpack_from(data, offset)
                offset += scalar.size
                if entry.is_list:
                    offset += max(value, 0) * scalars[entry.code].size
                row.append(value)
        except struct.error:
            raise _early_end(element, done) from None
        if offset > len(data):
            raise _early_end(element, done)
        yield row, offset


def _read_ascii(
    stream: BinaryIO, before: list[_Element], vertex: _Element, axes: list[int]
) -> Iterator[np.ndarray]:
    lines = (line.decode("latin-1") for line in stream if not line.isspace())
    for element in before:
        for done in range(element.count):
            if next(lines, None) is None:
                raise _early_end(element, done)
    done = 0
    while done < vertex.count:
        rows = itertools.islice(lines, min(_LINES, vertex.count - done))
        if vertex.has_lists:
            picked = [_pick_ascii(line.split(), vertex, axes) for line in rows]
            points = np.array(picked, np.float64).reshape(-1, 3)
        else:
            points = parse_rows(rows, axes)
        done += len(points)
        if len(points) < _LINES and done < vertex.count:
            raise _early_end(vertex, done)
        yield points


def _pick_ascii(words: list[str], element: _Element, axes: list[int]) -> list[float]:
    """x, y and z of a row of words in which lists stand before some of them."""
    values = []
    position = 0
    for entry in element.properties:
        values.append(float(words[position]))
        position += 1 + (max(int(words[position]), 0) if entry.is_list else 0)
    return [values[axis] for axis in axes]
