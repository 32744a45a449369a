"""NumPy files: NPY with one array, NPZ with the coordinates under a usual name."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import numpy as np

from pccodec.errors import InputError
from pccodec.io.spec import CloudSpec
from pccodec.io.table import read_table, rows_left

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}

_USUAL_NAMES = ("points", "xyz", "coords", "coordinates", "positions", "vertices", "verts")


def read_npy(stream: BinaryIO) -> tuple[Iterable[np.ndarray], tuple[str, ...]]:
    """Coordinates, in blocks (n, 3), of an array (n, ≥ 3) or of one with the fields x, y, z.

    Arrays that stand in Fortran order are held in memory as a whole.
    """
    start = stream.tell()
    version = np.lib.format.read_magic(stream)
    if version in _HEADERS:
        shape, is_fortran, dtype = _HEADERS[version](stream)
        count = math.prod(shape if dtype.names else shape[:1])
        row = dtype if dtype.names else np.dtype((dtype, shape[1:]))
        is_table = bool(dtype.names) or len(shape) == 2
        is_table = is_table and row.itemsize > 0 and not is_fortran and not dtype.hasobject
        if is_table and 0 < count <= rows_left(stream, row.itemsize):
            _, skipped = _coordinates(np.empty((1,) if dtype.names else (1, *shape[1:]), dtype))
            return (_coordinates(table)[0] for table in _tables(stream, row, count)), skipped
    stream.seek(start)
    points, skipped = _coordinates(np.lib.format.read_array(stream, allow_pickle=False))
    return [points], skipped


def _tables(stream: BinaryIO, row: np.dtype, count: int) -> Iterator[np.ndarray]:
    """Blocks of ``read_table``, with the columns of an unstructured array as their second axis."""
    if row.subdtype is None:
        yield from read_table(stream, row, count)
        return
    base, shape = row.subdtype
    for table in read_table(stream, np.dtype((np.void, row.itemsize)), count):
        yield table.view(base).reshape(-1, *shape)


def read_npz(stream: BinaryIO) -> tuple[Iterable[np.ndarray], tuple[str, ...]]:
    """Coordinates of the array named points (or xyz, coords, vertices, …), or of the only array.

    Raises:
        InputError: no array can be told to be the coordinates.
    """
    archive = np.load(stream, allow_pickle=False)
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise InputError("not an NPZ file")
    with archive:
        names = archive.files
        chosen = next((name for name in _USUAL_NAMES if name in names), names[0] if len(names) == 1 else None)
        if chosen is None:
            raise InputError(f"no array is named {_USUAL_NAMES[0]}: {', '.join(names) or 'no arrays'}")
        array = archive[chosen]
        if not isinstance(array, np.ndarray):
            raise InputError(f"{chosen} is not a NumPy array")
        points, skipped = _coordinates(array)
    return [points], skipped + tuple(name for name in names if name != chosen)


class NpyWriter:
    """An array (n, 3) of int64 or float64."""

    def __init__(self, stream: BinaryIO, spec: CloudSpec) -> None:
        self._stream = stream
        self._spec = spec
        self._start = 0 if spec.total is not None else stream.tell()
        self._write_header(spec.total or 0)

    def _write_header(self, count: int) -> None:
        # numpy leaves room for longer counts, so that all headers are of one size.
        header = {"descr": self._spec.dtype.str, "fortran_order": False, "shape": (count, 3)}
        np.lib.format.write_array_header_1_0(self._stream, header)

    def write(self, points: np.ndarray) -> None:
        """Append points (n, 3)."""
        self._stream.write(points.astype(self._spec.dtype, order="C", copy=False).data)

    def finish(self, count: int) -> None:
        """Write the number of points where it was not known."""
        if self._spec.total is None:
            self._stream.seek(self._start)
            self._write_header(count)
            self._stream.seek(0, io.SEEK_END)


def write_npz(stream: BinaryIO, points: np.ndarray, tolerance: float) -> None:
    """Write points (n, 3), compressed, under the name ``points``; ``tolerance`` is not needed."""
    np.savez_compressed(stream, points=points)


def _coordinates(array: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    if array.dtype.names:
        names = array.dtype.names
        if not {"x", "y", "z"} <= set(names):
            raise InputError("the array has no fields x, y, z")
        points = np.stack([array[axis].ravel() for axis in "xyz"], axis=1)
        return points, tuple(name for name in names if name not in "xyz")
    if array.ndim == 2 and array.shape[1] > 3:
        return array[:, :3], (f"{array.shape[1] - 3} further columns",)
    return array, ()
