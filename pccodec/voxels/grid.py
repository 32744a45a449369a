"""Voxelization: from points to sorted Morton codes on a grid, and back.

Voxel ``v`` stands for the point ``origin + scale * v``; a point goes to the nearest
voxel, so that decoding returns each coordinate within half a voxel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from pccodec.errors import InputError
from pccodec.io.cloud import ChunkedCloud
from pccodec.io.spec import CloudSpec
from pccodec.io.survey import EXACT_LIMIT, Survey
from pccodec.voxels import morton
from pccodec.voxels.density import default_voxel_size

_CHUNK = 1 << 18

_MAX_INDEX = 2**morton.MAX_BITS - 1

_LARGEST = 1e300
"""Coordinates up to this size can be subtracted and scaled without overflow."""


@dataclass(frozen=True)
class Grid:
    """A cubic grid of ``2**bits`` voxels an axis.

    Attributes:
        origin: the point of voxel (0, 0, 0).
        scale: edge of a voxel in units of the input; 1 for integer clouds.
        bits: bits an axis, 1…21.
        is_integer: the cloud had integer coordinates and keeps them exactly.
    """

    origin: tuple[float, float, float]
    scale: float
    bits: int
    is_integer: bool

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= morton.MAX_BITS:
            raise InputError(f"a grid has 1 to {morton.MAX_BITS} bits an axis, not {self.bits}")
        if not all(map(math.isfinite, (*self.origin, self.scale))) or self.scale <= 0:
            raise InputError("origin and scale of a grid must be finite, and the scale positive")
        if self.is_integer:
            whole = all(value == int(value) and abs(value) <= EXACT_LIMIT for value in self.origin)
            if self.scale != 1 or not whole:
                raise InputError("the grid of an integer cloud has scale 1 and an integer origin")

    @property
    def tolerance(self) -> float:
        """Rounding error that does not matter in coordinates of this grid: a thousandth of a voxel."""
        return self.scale / 1024

    def spec(self, total: int | None = None) -> CloudSpec:
        """What a writer has to know of points on this grid, ``total`` of them if that is known."""
        low, high = self.points(np.array([0, (1 << 3 * self.bits) - 1], np.uint64))
        tolerance = 0.0 if self.is_integer else self.tolerance
        return CloudSpec.within(low, high, self.is_integer, tolerance, total)

    def codes(self, points: np.ndarray) -> np.ndarray:
        """Morton codes uint64 (n,) of the voxels of points (n, 3), which must lie within the grid."""
        codes = np.empty(len(points), np.uint64)
        dtype = np.int64 if self.is_integer else np.float64
        origin = np.array(self.origin, dtype)
        # In parts that stay in the cache.
        for start in range(0, len(points), _CHUNK):
            part: np.ndarray = points[start : start + _CHUNK].astype(dtype, copy=False) - origin
            if not self.is_integer:
                part /= self.scale
                np.rint(part, out=part)
            codes[start : start + _CHUNK] = morton.encode(part)
        return codes

    def points(self, codes: np.ndarray) -> np.ndarray:
        """Coordinates (n, 3) of Morton codes uint64 (n,): int64 on an integer grid, else float64."""
        points = np.empty((len(codes), 3), np.int64 if self.is_integer else np.float64)
        for start in range(0, len(codes), _CHUNK):
            part = points[start : start + _CHUNK]
            part[:] = morton.decode(codes[start : start + _CHUNK])
            if self.is_integer:
                part += np.array(self.origin, np.int64)
            else:
                np.multiply(part, self.scale, out=part)
                np.add(part, np.array(self.origin), out=part)
        return points


class Voxelized(NamedTuple):
    """Result of ``voxelize``: distinct voxels in Morton order."""

    grid: Grid
    codes: np.ndarray
    """uint64 (m,), strictly increasing."""
    duplicates: int
    """Input points that share a voxel with an earlier one: n - m."""


def voxelize(points: ArrayLike, voxel_size: float | None = None, bits: int | None = None) -> Voxelized:
    """Voxelize points (n, 3).

    Integer clouds keep their own grid, with the origin at 0 if no coordinate is
    negative and all fit, else at their minimum. They leave it only for a ``voxel_size``
    other than 1, or for fewer ``bits`` than they need. Clouds of floats start at
    their minimum; without ``voxel_size`` or ``bits`` the voxel size is that of
    ``density.default_voxel_size``.

    Args:
        points: any real dtype; floats that are all integers count as integers.
        voxel_size: edge of a voxel in units of the input.
        bits: bits an axis; the longest axis of the bounding box gets ``2**bits`` voxels.

    Raises:
        InputError: no points, NaN or infinity, more than 21 bits an axis, a voxel size
            finer than float64 resolves, or both options at once.
    """
    cloud = ChunkedCloud.of(points)
    grid = choose_grid(cloud, voxel_size, bits)
    codes = np.concatenate([grid.codes(chunk) for chunk in cloud])
    distinct = sort_distinct(codes)
    return Voxelized(grid, distinct, len(codes) - len(distinct))


def choose_grid(cloud: ChunkedCloud, voxel_size: float | None = None, bits: int | None = None) -> Grid:
    """The grid of ``voxelize`` for a cloud of any size.

    Raises:
        InputError: as of ``voxelize``.
    """
    survey = cloud.survey
    if max(survey.high.max(), -survey.low.min()) > _LARGEST:
        raise InputError(f"coordinates beyond {_LARGEST:g} are not supported")
    if voxel_size is not None and bits is not None:
        raise InputError("give a voxel size or a number of bits, not both")
    if voxel_size is not None and not (math.isfinite(voxel_size) and voxel_size > 0):
        raise InputError(f"the voxel size must be positive, not {voxel_size}")
    if bits is not None and not 1 <= bits <= morton.MAX_BITS:
        raise InputError(f"bits must be 1 to {morton.MAX_BITS}, not {bits}")
    grid = _integer_grid(survey, voxel_size, bits) if survey.is_integer else None
    return grid or _float_grid(cloud, voxel_size, bits)


def _integer_grid(survey: Survey, voxel_size: float | None, bits: int | None) -> Grid | None:
    """The cloud's own grid, None if the options ask for another."""
    if voxel_size not in (None, 1):
        return None
    low, high = survey.low.tolist(), survey.high.tolist()
    origin = [0, 0, 0] if min(low) >= 0 and max(high) <= _MAX_INDEX else low
    extent = max(upper - start for upper, start in zip(high, origin, strict=True))
    if bits is not None and extent >= 2**bits:
        # The unused part below the minimum may be what does not fit.
        origin = low
        extent = max(upper - start for upper, start in zip(high, origin, strict=True))
        if extent >= 2**bits:
            return None
    if extent > _MAX_INDEX:
        raise InputError(
            f"integer coordinates span {extent} units, more than {morton.MAX_BITS} bits an axis hold: "
            f"choose a voxel size of at least {_round_up(extent / _MAX_INDEX)}, or a number of bits"
        )
    x, y, z = (float(value) for value in origin)
    return Grid((x, y, z), 1.0, max(1, extent.bit_length()), is_integer=True)


def _float_grid(cloud: ChunkedCloud, voxel_size: float | None, bits: int | None) -> Grid:
    low, high = (limit.astype(np.float64) for limit in (cloud.survey.low, cloud.survey.high))
    extent = float((high - low).max())
    # Points of the grid must differ by several steps of float64, or rounding would move them.
    finest = 4 * float(np.spacing(max(high.max(), -low.min())))
    if voxel_size is not None:
        scale = float(voxel_size)
        if extent and scale < finest:
            raise InputError(
                f"a voxel size of {scale:g} is finer than float64 resolves at such coordinates: "
                f"choose at least {_round_up(finest)}, or subtract an offset from the points"
            )
        # Compared before rounding: the quotient may be too large for an integer.
        if extent / scale > _MAX_INDEX + 0.5:
            raise InputError(
                f"a voxel size of {scale:g} needs more than {morton.MAX_BITS} bits an axis: "
                f"choose at least {_round_up(extent / _MAX_INDEX)}, or a number of bits"
            )
    elif not extent:
        scale = 1.0
    elif bits is not None:
        scale = max(extent / (2**bits - 1), finest)
    else:
        scale = max(default_voxel_size(cloud), finest)
    index = int(np.rint(extent / scale))
    x, y, z = low.tolist()
    return Grid((x, y, z), scale, max(1, index.bit_length()), is_integer=False)


def _round_up(size: float) -> str:
    """A voxel size for a message: three digits, never below the size itself."""
    step = 10.0 ** (math.floor(math.log10(size)) - 2)
    return f"{math.ceil(size / step) * step:.3g}"


def sort_distinct(codes: np.ndarray) -> np.ndarray:
    """Sorted distinct codes; ``codes`` may be changed."""
    if not (codes[1:] > codes[:-1]).all():
        codes.sort()
        codes = codes[np.concatenate([[True], codes[1:] != codes[:-1]])]
    return codes
