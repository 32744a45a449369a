"""Normals of a point cloud by principal component analysis of neighbourhoods.

The normal is the eigenvector of the smallest eigenvalue of the covariance of the 16 nearest
neighbours, the point itself included. D2 averages normals that are not oriented, so the sign
of each matters; the closed form of D. Eberly, "A Robust Eigensolver for 3x3 Symmetric
Matrices" (Geometric Tools, 2014), gives the sign that Open3D's ``estimate_normals`` gives,
with which D2 is commonly computed; an iterative eigensolver would choose other signs.
"""

from __future__ import annotations

import numpy as np
from pykdtree.kdtree import KDTree

NEIGHBOURS = 16

_CHUNK = 1 << 16


def estimate_normals(points: np.ndarray, tree: KDTree | None = None) -> np.ndarray:
    """Unit normals, float64 (n, 3), of distinct points (n, 3).

    Args:
        points: float64 (n, 3), n ≥ 1.
        tree: k-d tree of the points, if there is one already.

    Returns:
        One unit vector a point. Where the neighbourhood has no smallest axis (a single point),
        it is the z axis.
    """
    tree = KDTree(points) if tree is None else tree
    k = min(NEIGHBOURS, len(points))
    normals = np.empty((len(points), 3))
    for start in range(0, len(points), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        _, index = tree.query(points[chunk], k=k)
        offset = points[index.reshape(-1, k)] - points[chunk, None]
        offset -= offset.mean(axis=1, keepdims=True)
        normals[chunk] = smallest_eigenvector(np.einsum("nki,nkj->nij", offset, offset) / k)
    return normals


def smallest_eigenvector(matrices: np.ndarray) -> np.ndarray:
    """Unit eigenvectors (n, 3) of the smallest eigenvalues of covariance matrices (n, 3, 3)."""
    scale = matrices.max(axis=(1, 2))
    a = matrices / np.where(scale > 0, scale, 1)[:, None, None]
    diagonal = np.diagonal(a, axis1=1, axis2=2)
    vectors = _axis_of_diagonal(diagonal)
    full = np.flatnonzero(a[:, 0, 1] ** 2 + a[:, 0, 2] ** 2 + a[:, 1, 2] ** 2 > 0)
    a = a[full]
    # Eigenvalues q + p·β in closed form, β the roots of a depressed cubic.
    mean = np.trace(a, axis1=1, axis2=2) / 3
    centred = a - mean[:, None, None] * np.eye(3)
    spread = np.sqrt((centred**2).sum(axis=(1, 2)) / 6)
    half_det = np.clip(np.linalg.det(centred / spread[:, None, None]) / 2, -1, 1)
    angle = np.arccos(half_det) / 3
    largest = 2 * np.cos(angle)
    smallest = 2 * np.cos(angle + 2 * np.pi / 3)
    middle = -(largest + smallest)
    # The eigenvalue that stands apart from the other two gives the accurate eigenvector.
    apart = half_det >= 0
    result = np.empty((len(full), 3))
    result[~apart] = _isolated_vector(a[~apart], (mean + spread * smallest)[~apart])
    third = _isolated_vector(a[apart], (mean + spread * largest)[apart])
    second = _orthogonal_vector(a[apart], third, (mean + spread * middle)[apart])
    result[apart] = np.cross(second, third)
    vectors[full] = result
    return vectors


def _axis_of_diagonal(diagonal: np.ndarray) -> np.ndarray:
    """Axis of the strictly smallest diagonal entry; z where x and y are not."""
    x, y, z = diagonal.T
    axis = np.where((x < y) & (x < z), 0, np.where((y < x) & (y < z), 1, 2))
    return np.eye(3)[axis]


def _isolated_vector(a: np.ndarray, eigenvalue: np.ndarray) -> np.ndarray:
    """Eigenvector of a simple eigenvalue: the longest cross product of two rows of a - λI."""
    rows = a - eigenvalue[:, None, None] * np.eye(3)
    crosses = np.stack([np.cross(rows[:, i], rows[:, j]) for i, j in ((0, 1), (0, 2), (1, 2))], axis=1)
    lengths = (crosses**2).sum(axis=2)
    best = lengths.argmax(axis=1)[:, None]
    chosen = np.take_along_axis(crosses, best[:, :, None], axis=1)[:, 0]
    return chosen / np.sqrt(np.take_along_axis(lengths, best, axis=1))


def _orthogonal_vector(a: np.ndarray, known: np.ndarray, eigenvalue: np.ndarray) -> np.ndarray:
    """Eigenvector of ``eigenvalue`` within the plane orthogonal to the ``known`` eigenvector."""
    x, y, z = known.T
    zero = np.zeros_like(x)
    by_x = np.abs(x) > np.abs(y)
    u = np.where(by_x[:, None], np.stack([-z, zero, x], axis=1), np.stack([zero, z, -y], axis=1))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    v = np.cross(known, u)
    m00 = np.einsum("ni,nij,nj->n", u, a, u) - eigenvalue
    m01 = np.einsum("ni,nij,nj->n", u, a, v)
    m11 = np.einsum("ni,nij,nj->n", v, a, v) - eigenvalue
    # The null vector of [[m00, m01], [m01, m11]] is orthogonal to its longer row.
    first = np.abs(m00) >= np.abs(m11)
    along_u, along_v = np.where(first, m01, m11), -np.where(first, m00, m01)
    own = np.where(first, m00, m11)
    sign = np.where(np.where(np.abs(own) >= np.abs(m01), own, m01) < 0, -1.0, 1.0)
    length = np.hypot(along_u, along_v)
    # Both rows vanish for a double eigenvalue: every vector of the plane will do.
    double = length == 0
    scale = sign / np.where(double, 1, length)
    along_u, along_v = np.where(double, 1, along_u * scale), along_v * scale
    return along_u[:, None] * u + along_v[:, None] * v
