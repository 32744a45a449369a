"""What a writer has to know of a cloud before its first point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

_CHUNK = 1 << 18

_EXACT_IN_FLOAT32 = 2**24


@dataclass(frozen=True, eq=False)
class CloudSpec:
    """A cloud that is about to be written.

    Attributes:
        low: coordinates (3,) that no point goes below.
        high: coordinates (3,) that no point goes above.
        is_integer: whether all coordinates are integers.
        tolerance: rounding error allowed in a coordinate, 0: none.
        storage: float32 if it holds all coordinates within ``tolerance``, else float64.
        total: number of points; None if only the last of them will tell.
    """

    low: np.ndarray
    high: np.ndarray
    is_integer: bool
    tolerance: float
    storage: np.dtype
    total: int | None = None

    @property
    def dtype(self) -> np.dtype:
        """What points come as: int64 or float64."""
        return np.dtype(np.int64 if self.is_integer else np.float64)

    @classmethod
    def of(cls, points: np.ndarray, tolerance: float) -> CloudSpec:
        """The spec of points (n, 3), n ≥ 1, int64 or float64, that are all there."""
        # A column at a time is nine times as fast as a reduction along axis 0.
        columns = [points[:, axis] for axis in range(3)]
        low, high = np.array([c.min() for c in columns]), np.array([c.max() for c in columns])
        storage = storage_dtype(points, tolerance)
        return cls(low, high, points.dtype.kind == "i", tolerance, storage, len(points))

    @classmethod
    def within(
        cls, low: np.ndarray, high: np.ndarray, is_integer: bool, tolerance: float, total: int | None = None
    ) -> CloudSpec:
        """The spec of points to come, of which no more is known than a box (3,) to (3,)."""
        largest = float(max(np.abs(low).max(), np.abs(high).max()))
        if is_integer:
            fits = largest <= _EXACT_IN_FLOAT32
        else:
            with np.errstate(over="ignore", invalid="ignore"):
                fits = bool(np.spacing(np.float32(largest)) / 2 <= tolerance)
        storage = np.dtype(np.float32 if fits else np.float64)
        return cls(low, high, is_integer, tolerance, storage, total)


class PointWriter(Protocol):
    """Writes a cloud in some format, a chunk at a time."""

    def write(self, points: np.ndarray) -> None:
        """Append points (n, 3) of the dtype of the spec."""

    def finish(self, count: int) -> None:
        """Complete the file after the last of ``count`` points."""


def storage_dtype(points: np.ndarray, tolerance: float) -> np.dtype:
    """float32 if it holds all coordinates within ``tolerance`` (0: exactly), else float64."""
    for start in range(0, len(points), _CHUNK):
        chunk = points[start : start + _CHUNK].astype(np.float64, copy=False)
        with np.errstate(over="ignore"):
            error = np.abs(chunk.astype(np.float32).astype(np.float64) - chunk)
        if error.max() > tolerance:
            return np.dtype(np.float64)
    return np.dtype(np.float32)
