"""The point cloud as the codec takes it: coordinates, and whether they are integers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from pccodec.errors import InputError
from pccodec.io.survey import Survey, survey

CHUNK = 1 << 20
"""Most points of a chunk of a cloud."""


@dataclass(frozen=True, eq=False)
class PointCloud:
    """Points in file order, duplicates included.

    Attributes:
        points: (n, 3), n ≥ 1; int64 if every coordinate is an integer, else finite float64.
        skipped: names of the attributes that the file held besides the coordinates.
    """

    points: np.ndarray
    skipped: tuple[str, ...] = ()

    @property
    def is_integer(self) -> bool:
        """Whether the cloud lies on the integer grid; its dtype says so."""
        return self.points.dtype.kind == "i"

    def __len__(self) -> int:
        return len(self.points)

    @classmethod
    def of(cls, points: ArrayLike, skipped: tuple[str, ...] = ()) -> PointCloud:
        """Cloud of an array (n, 3) of any real dtype.

        Floats that are all integers of at most ``EXACT_LIMIT`` become int64: many
        voxelized clouds are stored as floats.

        Raises:
            InputError: wrong shape or dtype, no points, NaN or infinity, or integers
                beyond ``EXACT_LIMIT``.
        """
        array = as_points(points)
        return cls(array.astype(survey([array]).dtype, copy=False), skipped)


class ChunkedCloud:
    """A cloud that is gone over as often as needed, a chunk at a time, and never held as a whole.

    Iterating gives arrays (n, 3) of at most ``CHUNK`` points, in file order and of
    the dtype that the source has. ``survey`` says what they are as a whole.
    """

    def __init__(self, blocks: Callable[[], Iterable[np.ndarray]]) -> None:
        """Take what gives the cloud anew at each call, in arrays (n, 3) of any length."""
        self._blocks = blocks

    @classmethod
    def of(cls, points: ArrayLike) -> ChunkedCloud:
        """The chunks of an array (n, 3).

        Raises:
            InputError: wrong shape, or no points.
        """
        array = as_points(points)
        return cls(lambda: [array])

    def __iter__(self) -> Iterator[np.ndarray]:
        for block in self._blocks():
            for start in range(0, len(block), CHUNK):
                yield block[start : start + CHUNK]

    @cached_property
    def survey(self) -> Survey:
        """Number, bounds and kind of the points, from a first pass.

        Raises:
            InputError: as of ``PointCloud.of``.
        """
        return survey(self)


def as_points(points: ArrayLike) -> np.ndarray:
    """An array of points, not yet looked at.

    Raises:
        InputError: wrong shape, or no points.
    """
    try:
        array = np.asarray(points)
    except ValueError as error:
        raise InputError("points must be an array of shape (n, 3)") from error
    if array.size == 0:
        raise InputError("the cloud has no points")
    if array.ndim != 2 or array.shape[1] != 3:
        raise InputError(f"points must have shape (n, 3), not {array.shape}")
    return array
