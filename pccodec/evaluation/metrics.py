"""Geometry distortion between two point clouds: D1 (point to point) and D2 (point to plane).

The numbers follow MPEG's reference software ``pc_error`` 0.14.2 with
``--dropdups=2 --neighborsProc=1`` (D. Tian et al., "Geometric distortion metrics for
point cloud compression", ICIP 2017):

* Points with equal coordinates count once; of their normals the first one stays.
* D1 of a direction is the mean squared distance to the nearest neighbour in the other cloud.
* D2 of a direction projects the error vector on the normal of that neighbour. Where several
  neighbours are equally near (at most 30 are looked at), it is the mean over them.
* A degraded point takes the mean (not renormalized) of the normals of the reference points
  whose nearest neighbour it is, ties included; a point that is nobody's nearest neighbour
  takes the mean normal of the reference points nearest to it.
* PSNR = 10·log10(3·peak² / MSE) with the larger MSE of the two directions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from pykdtree.kdtree import KDTree

from pccodec.errors import InputError
from pccodec.evaluation.normals import estimate_normals
from pccodec.voxels import morton

LOSSLESS_PSNR = 99.99
"""What tables show in place of an infinite PSNR."""

_TIES = (8, 30)
"""Neighbours looked at, widened while all are equally near; pc_error stops at 30."""


@dataclass(frozen=True)
class Distortion:
    """Errors between a reference and a degraded cloud.

    Attributes:
        d1_forward: mean squared point-to-point error, reference → degraded, in squared units.
        d1_backward: the same, degraded → reference.
        d2_forward: mean squared point-to-plane error, reference → degraded.
        d2_backward: the same, degraded → reference.
        peak: peak value of the PSNRs, in the units of the coordinates.
    """

    d1_forward: float
    d1_backward: float
    d2_forward: float
    d2_backward: float
    peak: float

    @property
    def d1_mse(self) -> float:
        """Symmetric D1: the larger of both directions."""
        return max(self.d1_forward, self.d1_backward)

    @property
    def d2_mse(self) -> float:
        """Symmetric D2: the larger of both directions."""
        return max(self.d2_forward, self.d2_backward)

    @property
    def d1_psnr(self) -> float:
        """D1 PSNR in dB; infinite for equal clouds."""
        return psnr(self.d1_mse, self.peak)

    @property
    def d2_psnr(self) -> float:
        """D2 PSNR in dB; infinite when no error has a component along a normal."""
        return psnr(self.d2_mse, self.peak)


class Reference:
    """An original cloud, prepared once and compared with many degraded ones.

    Args:
        points: (n, 3), n ≥ 1, finite, integers or floats; duplicates are merged.
        normals: (n, 3) unit normals of the points, or None to estimate them by PCA over the 16
            nearest neighbours.
        peak: peak value of the PSNR; None for the rule of ``peak_value`` (integer points only).

    Raises:
        InputError: wrong shape, no point, NaN or infinity, or no rule for the peak.
    """

    def __init__(
        self, points: np.ndarray, normals: np.ndarray | None = None, peak: float | None = None
    ) -> None:
        points = _checked(points)
        self.peak = peak_value(points) if peak is None else float(peak)
        first = _first_of_each(points)
        self.points = points[first]
        self._tree = KDTree(self.points)
        if normals is not None and np.shape(normals) != points.shape:
            raise InputError(f"normals have shape {np.shape(normals)}, points {points.shape}")
        self._given = None if normals is None else np.asarray(normals, dtype=np.float64)[first]

    @cached_property
    def normals(self) -> np.ndarray:
        """Unit normals float64 (n, 3) of the distinct points; estimated when first used, as D1 needs none."""
        return estimate_normals(self.points, self._tree) if self._given is None else self._given

    def d1_mse(self, points: np.ndarray) -> float:
        """Symmetric D1 error of degraded points (m, 3), in squared units; what ``compare`` gives, faster.

        Raises:
            InputError: wrong shape, no point, NaN or infinity.
        """
        degraded = _checked(points)
        degraded = degraded[_first_of_each(degraded)]
        pairs = ((KDTree(degraded), self.points), (self._tree, degraded))
        return max(float(tree.query(queries, k=1, sqr_dists=True)[0].mean()) for tree, queries in pairs)

    def compare(self, points: np.ndarray) -> Distortion:
        """Distortion of degraded points (m, 3), m ≥ 1, in the coordinates of the reference.

        Raises:
            InputError: wrong shape, no point, NaN or infinity.
        """
        degraded = _checked(points)
        degraded = degraded[_first_of_each(degraded)]
        forward = _Nearest.find(KDTree(degraded), self.points)
        backward = _Nearest.find(self._tree, degraded)
        normals = self._transfer_normals(forward, backward)
        return Distortion(
            d1_forward=float(forward.squared.mean()),
            d1_backward=float(backward.squared.mean()),
            d2_forward=forward.plane_error(self.points, degraded, normals),
            d2_backward=backward.plane_error(degraded, self.points, self.normals),
            peak=self.peak,
        )

    def _transfer_normals(self, forward: _Nearest, backward: _Nearest) -> np.ndarray:
        """Normals (m, 3) of the degraded points, from the nearest pairs of both directions."""
        size = len(backward.squared)
        normals, count = _mean_of_rows(forward.neighbour, self.normals, forward.query, size)
        fallback, _ = _mean_of_rows(backward.query, self.normals, backward.neighbour, size)
        return np.where(count[:, None] > 0, normals, fallback)


def psnr(mse: float, peak: float) -> float:
    """Geometry PSNR in dB, 10·log10(3·peak²/mse); infinite for mse = 0."""
    return math.inf if mse == 0 else 10 * math.log10(3 * peak**2 / mse)


def table_psnr(value: float) -> float:
    """A PSNR in dB as tables hold it: infinity becomes 99.99."""
    return LOSSLESS_PSNR if math.isinf(value) else value


def peak_of_depth(bits: int) -> int:
    """Peak of a grid of ``bits`` bits an axis: 1023 up to 10 bits, then 2**bits - 1.

    Clouds of 8 and 9 bits share the peak of 10 bits, so that equal errors in voxels have
    equal PSNRs; the published results for such clouds use it too.
    """
    return 2 ** max(bits, 10) - 1


def peak_value(points: np.ndarray) -> int:
    """Peak for integer-valued points (n, 3), from the smallest bit depth that holds them.

    Points with a negative coordinate are shifted to start at 0 first.

    Raises:
        InputError: points that are not integers; their voxel grid decides, so the peak must
            be given.
    """
    if not _is_integer(points):
        raise InputError("points are not integers: give the peak value of their voxel grid")
    extent = points.max() - min(0, points.min(axis=0).min())
    return peak_of_depth(int(extent).bit_length())


@dataclass(frozen=True)
class _Nearest:
    """Nearest neighbours of n query points; ties give several pairs for one query.

    Attributes:
        squared: squared distance, float64 (n,).
        query, neighbour: indices of all nearest pairs, int64 (pairs,).
    """

    squared: np.ndarray
    query: np.ndarray
    neighbour: np.ndarray

    @classmethod
    def find(cls, tree: KDTree, queries: np.ndarray) -> _Nearest:
        squared, nearest = tree.query(queries, k=1, sqr_dists=True)
        # A point found exactly has no ties, as points are distinct.
        done = np.flatnonzero(squared == 0)
        pairs = [(done, nearest[done])]
        pending = np.flatnonzero(squared > 0)
        for k in _TIES:
            if not len(pending):
                break
            distances, neighbours = tree.query(queries[pending], k=min(k, tree.n), sqr_dists=True)
            distances, neighbours = distances.reshape(len(pending), -1), neighbours.reshape(len(pending), -1)
            tied = distances == distances[:, :1]
            open_ended = tied.all(axis=1) & (min(k, tree.n) < min(_TIES[-1], tree.n))
            row, column = np.nonzero(tied & ~open_ended[:, None])
            pairs.append((pending[row], neighbours[row, column]))
            pending = pending[open_ended]
        query, neighbour = (np.concatenate(part).astype(np.int64) for part in zip(*pairs, strict=True))
        return cls(squared, query, neighbour)

    def plane_error(self, queries: np.ndarray, others: np.ndarray, normals: np.ndarray) -> float:
        """Mean over the queries of the squared error along the normals (m, 3) of their neighbours."""
        apart = self.squared[self.query] > 0
        query, neighbour = self.query[apart], self.neighbour[apart]
        along = np.einsum("ij,ij->i", queries[query] - others[neighbour], normals[neighbour])
        size = len(self.squared)
        total = np.bincount(query, weights=along**2, minlength=size)
        count = np.bincount(query, minlength=size)
        return float((total / np.maximum(count, 1)).mean())


def _mean_of_rows(
    target: np.ndarray, rows: np.ndarray, source: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean (size, 3) of ``rows[source]`` by target index, zero where there is none; and the counts."""
    count = np.bincount(target, minlength=size)
    total = np.stack([np.bincount(target, weights=axis[source], minlength=size) for axis in rows.T], axis=1)
    return total / np.maximum(count, 1)[:, None], count


def _checked(points: np.ndarray) -> np.ndarray:
    points = np.asarray(points)
    if points.ndim != 2 or points.shape[1] != 3 or len(points) == 0:
        raise InputError(f"a cloud has shape (n, 3) with n ≥ 1, not {points.shape}")
    points = points.astype(np.float64)
    if not np.isfinite(points).all():
        raise InputError("a coordinate is NaN or infinite")
    return points


def _is_integer(points: np.ndarray) -> bool:
    return bool((points == np.rint(points)).all())


def _first_of_each(points: np.ndarray) -> np.ndarray:
    """Index of the first occurrence of each distinct point, in an order that is kind to the cache."""
    low = points.min(axis=0)
    if _is_integer(points) and (points.max(axis=0) - low).max() < 2**morton.MAX_BITS:
        return np.unique(morton.encode((points - low).astype(np.int64)), return_index=True)[1]
    order = np.lexsort(points.T)
    ordered = points[order]
    new = np.concatenate([[True], (ordered[1:] != ordered[:-1]).any(axis=1)])
    return order[new]
