"""What one pass over the points of a cloud tells, in memory that does not grow with it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from pccodec.errors import InputError

EXACT_LIMIT = 2**53
"""Integers up to this size are exact in float64, hence in every file format written here."""

_CHUNK = 1 << 18

_SEEDS = 32

_HASH = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, eq=False)
class Survey:
    """A cloud as a whole.

    Attributes:
        points: number of points, at least one.
        low: lowest coordinates (3,); int64 if the cloud is an integer one, else float64.
        high: highest coordinates, as ``low``.
        is_integer: whether all coordinates are integers that float64 holds exactly.
        seeds: (k, 3), up to 32 points spread over the cloud's order; the same however it is cut into chunks.
    """

    points: int
    low: np.ndarray
    high: np.ndarray
    is_integer: bool
    seeds: np.ndarray

    @property
    def dtype(self) -> np.dtype:
        """What the points are kept as: int64 or float64."""
        return np.dtype(np.int64 if self.is_integer else np.float64)


def survey(chunks: Iterable[np.ndarray]) -> Survey:
    """Look at every point once.

    Args:
        chunks: arrays (n, 3) of real dtypes.

    Raises:
        InputError: wrong shape or dtype, no points, NaN or infinity, or integers beyond ``EXACT_LIMIT``.
    """
    found = _Pass()
    for chunk in chunks:
        if not chunk.size:
            continue
        if chunk.ndim != 2 or chunk.shape[1] != 3:
            raise InputError(f"points must have shape (n, 3), not {chunk.shape}")
        if chunk.dtype.kind not in "iuf":
            raise InputError(f"coordinates must be real numbers, not {chunk.dtype}")
        # In parts that stay in the cache, and that tell a cloud of floats by its first points.
        for start in range(0, len(chunk), _CHUNK):
            found.add(chunk[start : start + _CHUNK])
    return found.result()


@dataclass
class _Pass:
    points: int = 0
    bad: int = 0
    is_integer: bool = True
    low: list[float] = field(default_factory=lambda: [np.inf] * 3)
    high: list[float] = field(default_factory=lambda: [-np.inf] * 3)
    seeds: np.ndarray = field(default_factory=lambda: np.empty((0, 3)))
    hashes: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint64))

    def add(self, part: np.ndarray) -> None:
        is_float = part.dtype.kind == "f"
        # A column at a time is nine times as fast as a reduction along axis 0.
        low = [part[:, axis].min().item() for axis in range(3)]
        high = [part[:, axis].max().item() for axis in range(3)]
        # Minimum and maximum are finite only if everything is.
        if is_float and not np.isfinite([low, high]).all():
            self.bad += int(np.count_nonzero(~np.isfinite(part).all(axis=1)))
        elif not is_float and max(*high, *(-value for value in low)) > EXACT_LIMIT:
            raise InputError("integer coordinates beyond ±2^53 are not supported: subtract an offset")
        elif is_float and self.is_integer:
            is_small = max(*high, *(-value for value in low)) <= EXACT_LIMIT
            self.is_integer = is_small and bool((part == np.rint(part)).all())
        self.low = [min(pair) for pair in zip(self.low, low, strict=True)]
        self.high = [max(pair) for pair in zip(self.high, high, strict=True)]
        self._sow(part)
        self.points += len(part)

    def _sow(self, part: np.ndarray) -> None:
        """Keep the points whose number has the smallest hash: a choice that chunks do not change."""
        hashes = np.arange(self.points, self.points + len(part), dtype=np.uint64) * _HASH
        nearest = np.argpartition(hashes, _SEEDS)[:_SEEDS] if len(part) > _SEEDS else slice(None)
        merged = np.concatenate([self.hashes, hashes[nearest]])
        order = np.argsort(merged)[:_SEEDS]
        self.hashes = merged[order]
        self.seeds = np.concatenate([self.seeds, part[nearest].astype(np.float64)])[order]

    def result(self) -> Survey:
        if not self.points:
            raise InputError("the cloud has no points")
        if self.bad:
            raise InputError(
                f"{self.bad} of {self.points} points have NaN or infinite coordinates: remove them"
            )
        dtype = np.int64 if self.is_integer else np.float64
        low, high = (np.array(limit, dtype) for limit in (self.low, self.high))
        return Survey(self.points, low, high, self.is_integer, self.seeds)
