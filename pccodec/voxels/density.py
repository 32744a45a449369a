"""The default voxel size of a cloud of floats, from the distance between its points."""

from __future__ import annotations

import math

import numpy as np

from pccodec.io.cloud import bounds
from pccodec.voxels.morton import MAX_BITS

_MAX_INDEX = 2**MAX_BITS - 1

_SAMPLE = 10_000
"""Points whose nearest neighbour is sought."""

_ALL = 500_000
"""Clouds up to this size are searched as a whole, larger ones in parts."""

_CELLS = 64
"""Cells an axis of the coarse partition of a large cloud."""

_SEARCHED = 32
"""How many of the cells are searched."""

_CHUNK = 1 << 18

_LATTICE_ERROR = 0.01
"""How far, in voxels, points may lie from a regular lattice: room for the rounding of float32."""


def default_voxel_size(points: np.ndarray) -> float:
    """A voxel size at which most points keep a voxel of their own.

    If all points lie on a regular lattice whose step is the median distance to the
    nearest neighbour (a voxelized cloud that was scaled), it is exactly that step.
    Else it is that distance, rounded down to a number of the series 1, 2, 5, 10, …;
    a coarser number of the series where that would need more than 21 bits an axis.

    Args:
        points: float64 (n, 3), finite, n ≥ 1.

    Returns:
        Edge of a voxel in units of the input; 1 if all points are equal.
    """
    low, high = bounds(points)
    extent = float((high - low).max())
    if not extent:
        return 1.0
    spacing = _median_spacing(points, low, extent)
    coarsest = extent / _MAX_INDEX
    if spacing >= coarsest:
        step = extent / round(extent / spacing)
        if _is_lattice(points, low, step):
            return step
        size = _series(spacing, up=False)
        if size >= coarsest:
            return size
    return _series(coarsest, up=True)


def _median_spacing(points: np.ndarray, low: np.ndarray, extent: float) -> float:
    """Median distance of a sample of points to their nearest other point, equal ones left out."""
    from scipy.spatial import cKDTree

    # Drawn with a fixed seed: the same cloud always gets the same grid.
    rng = np.random.default_rng(0)
    near = (_dense_parts(points, low, extent, rng) - low) / extent
    tree = cKDTree(near, balanced_tree=False, compact_nodes=False)
    sample = near[rng.choice(len(near), min(_SAMPLE, len(near)), replace=False)]
    distances, _ = tree.query(sample, k=min(8, len(near)))
    distances = np.where(distances > 0, distances, np.inf).reshape(len(sample), -1).min(axis=1)
    distances = distances[np.isfinite(distances)]
    return float(np.median(distances)) * extent if len(distances) else extent


def _dense_parts(points: np.ndarray, low: np.ndarray, extent: float, rng: np.random.Generator) -> np.ndarray:
    """All points of some cells of a coarse partition, drawn in proportion to the points they hold."""
    if len(points) <= _ALL:
        return points
    cells = np.empty(len(points), np.int32)
    for start in range(0, len(points), _CHUNK):
        place = ((points[start : start + _CHUNK] - low) * ((_CELLS - 0.01) / extent)).astype(np.int32)
        cells[start : start + _CHUNK] = (place[:, 0] * _CELLS + place[:, 1]) * _CELLS + place[:, 2]
    chosen = np.zeros(_CELLS**3, bool)
    chosen[cells[rng.choice(len(points), _SEARCHED)]] = True
    return points[chosen[cells]]


def _is_lattice(points: np.ndarray, low: np.ndarray, step: float) -> bool:
    for start in range(0, len(points), _CHUNK):
        place = (points[start : start + _CHUNK] - low) / step
        if np.abs(place - np.rint(place)).max() > _LATTICE_ERROR:
            return False
    return True


def _series(size: float, up: bool) -> float:
    """The number of the series 1, 2, 5, 10, … next to ``size``, above or below."""
    exponent = math.floor(math.log10(size))
    # Written as decimals: 10.0 ** -3 is not 0.001.
    numbers = [float(f"{digit}e{exponent + shift}") for shift in (-1, 0, 1) for digit in (1, 2, 5)]
    if up:
        return min(number for number in numbers if number >= size)
    return max(number for number in numbers if number <= size)
