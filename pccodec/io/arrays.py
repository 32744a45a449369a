"""NumPy files: NPY with one array, NPZ with the coordinates under a usual name."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np

from pccodec.errors import InputError

_USUAL_NAMES = ("points", "xyz", "coords", "coordinates", "positions", "vertices", "verts")


def read_npy(stream: BinaryIO) -> tuple[np.ndarray, tuple[str, ...]]:
    """Coordinates (n, 3) of an array (n, ≥ 3) or of one with the fields x, y, z; and what was skipped."""
    return _coordinates(np.lib.format.read_array(stream, allow_pickle=False))


def read_npz(stream: BinaryIO) -> tuple[np.ndarray, tuple[str, ...]]:
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
    return points, skipped + tuple(name for name in names if name != chosen)


def write_npy(stream: BinaryIO, points: np.ndarray, tolerance: float) -> None:
    """Write points (n, 3) with the dtype they have; ``tolerance`` is not needed."""
    np.save(stream, points, allow_pickle=False)


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
