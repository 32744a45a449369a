"""The default voxel size of a cloud of floats, from the distance between its points."""

from __future__ import annotations

import math

import numpy as np

from pccodec.io.cloud import ChunkedCloud
from pccodec.voxels import morton

_MAX_INDEX = 2**morton.MAX_BITS - 1

_SAMPLE = 10_000
"""Points whose nearest neighbour is sought."""

_ALL = 500_000
"""Clouds of up to so many points are searched as a whole, larger ones in parts that hold so many."""

_COARSE_BITS = 6
"""Bits an axis of the largest cells that are searched as parts."""

_CHUNK = 1 << 18

_LATTICE_ERROR = 0.01
"""How far, in voxels, points may lie from a regular lattice: room for the rounding of float32."""


def default_voxel_size(cloud: ChunkedCloud) -> float:
    """A voxel size at which most points keep a voxel of their own.

    If all points lie on a regular lattice whose step is the median distance to the
    nearest neighbour (a voxelized cloud that was scaled), it is exactly that step.
    Else it is that distance, rounded down to a number of the series 1, 2, 5, 10, …;
    a coarser number of the series where that would need more than 21 bits an axis.

    Args:
        cloud: points (n, 3) of which at most ``CHUNK`` and half a million more are held at a time.

    Returns:
        Edge of a voxel in units of the input; 1 if all points are equal.

    Raises:
        InputError: as of ``ChunkedCloud.survey``.
    """
    low = cloud.survey.low.astype(np.float64)
    extent = float((cloud.survey.high - low).max())
    if not extent:
        return 1.0
    spacing = _median_spacing(cloud, low, extent)
    coarsest = extent / _MAX_INDEX
    if spacing >= coarsest:
        step = extent / round(extent / spacing)
        if _is_lattice(cloud, low, step):
            return step
        size = _series(spacing, up=False)
        if size >= coarsest:
            return size
    return _series(coarsest, up=True)


def _median_spacing(cloud: ChunkedCloud, low: np.ndarray, extent: float) -> float:
    """Median distance of a sample of points to their nearest other point, equal ones left out."""
    from scipy.spatial import cKDTree

    near = (_dense_parts(cloud, low, extent) - low) / extent
    if not len(near):
        return 0.0
    tree = cKDTree(near, balanced_tree=False, compact_nodes=False)
    # Drawn with a fixed seed: the same cloud always gets the same grid.
    sample = near[np.random.default_rng(0).choice(len(near), min(_SAMPLE, len(near)), replace=False)]
    distances, _ = tree.query(sample, k=min(8, len(near)))
    distances = np.where(distances > 0, distances, np.inf).reshape(len(sample), -1).min(axis=1)
    distances = distances[np.isfinite(distances)]
    return float(np.median(distances)) * extent if len(distances) else extent


def _dense_parts(cloud: ChunkedCloud, low: np.ndarray, extent: float) -> np.ndarray:
    """All points of the cells around a few of them, in cells so small that the points are not too many.

    Single points drawn from a large cloud would be far apart, whatever its density: a
    cell must be kept whole. The cells around points drawn at random hold what most
    points see. Cells shrink, towards the same points, whenever they hold too many; how far
    depends on the whole cloud and not on where it is cut into chunks. None are left, and the
    result is empty, where even the finest voxels would hold too many.
    """
    if cloud.survey.points <= _ALL:
        return np.concatenate([chunk.astype(np.float64, copy=False) for chunk in cloud])

    def place(points: np.ndarray) -> np.ndarray:
        return ((points - low) / extent * (_MAX_INDEX + 0.99)).astype(np.int32)

    level = morton.MAX_BITS - _COARSE_BITS
    seeds = place(cloud.survey.seeds)
    coarse = np.zeros((1 << _COARSE_BITS,) * 3, bool)
    coarse[tuple((seeds >> level).T)] = True
    seed_codes = morton.encode(seeds)
    found, codes = np.empty((0, 3)), np.empty(0, np.uint64)
    for chunk in cloud:
        for start in range(0, len(chunk), _CHUNK):
            part = chunk[start : start + _CHUNK]
            cells = place(part)
            # Most points are told by a look into a table.
            chosen = coarse[tuple((cells >> (morton.MAX_BITS - _COARSE_BITS)).T)]
            new = morton.encode(cells[chosen])
            inside = _within(new, seed_codes, level)
            found = np.concatenate([found, part[chosen][inside]])
            codes = np.concatenate([codes, new[inside]])
            while len(codes) > _ALL:
                if not level:
                    return np.empty((0, 3))
                level -= 1
                inside = _within(codes, seed_codes, level)
                found, codes = found[inside], codes[inside]
    return found


def _within(codes: np.ndarray, seeds: np.ndarray, level: int) -> np.ndarray:
    """Which of the codes (n,) lie in the cell of edge ``2**level`` around any of the seeds."""
    shift = np.uint64(3 * level)
    return np.isin(codes >> shift, seeds >> shift)


def _is_lattice(cloud: ChunkedCloud, low: np.ndarray, step: float) -> bool:
    for chunk in cloud:
        for start in range(0, len(chunk), _CHUNK):
            place = (chunk[start : start + _CHUNK] - low) / step
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
