"""What a hash sees of a cloud: where its points lie around a vertical axis, as angular spectra.

The cloud is centred and scaled, its points are counted in a cylindrical grid (angle, radius,
height), and each ring is Fourier transformed along the angle. A rotation about the vertical by φ
multiplies the coefficient of frequency ``k`` by ``e^(−ikφ)``, everywhere alike; nothing else
changes but for the width of the bins.
"""

from __future__ import annotations

import numpy as np

ANGLES = 64
RADII = 8
HEIGHTS = 16
FREQUENCIES = 9
"""Frequencies 0…8 are kept: finer ones are noise in clouds of a few hundred points."""

REACH = 2.4
"""The grid reaches to so many root mean square distances from the centre; beyond stand few points."""

UPRIGHT = {"x": ((1, 2, 0), (1, 1, 1)), "y": ((0, 2, 1), (1, -1, 1)), "z": ((0, 1, 2), (1, 1, 1))}
"""For each axis that may point up: the axes, and their signs, that become x, y and z."""

_VOXEL = 1.0 / 16.0
_PASSES = 2


def upright(points: np.ndarray, up: str) -> np.ndarray:
    """Points (…, 3) turned so that their axis ``up`` ("x", "y" or "z") is z."""
    axes, signs = UPRIGHT[up]
    turned: np.ndarray = points[..., axes] * np.array(signs, dtype=points.dtype)
    return turned


def descriptor(points: np.ndarray) -> np.ndarray:
    """Angular spectra of a cloud, up along z.

    Args:
        points: (n, 3), n ≥ 1, finite.

    Returns:
        complex64 (FREQUENCIES, HEIGHTS * RADII); frequency 0 is real.
    """
    cells = _normalized(np.asarray(points, dtype=np.float64))
    radius = np.hypot(cells[:, 0], cells[:, 1])
    angle = np.arctan2(cells[:, 1], cells[:, 0])
    ring = _linear_bins(radius * (RADII / REACH) - 0.5, RADII)
    level = _linear_bins((cells[:, 2] + REACH) * (HEIGHTS / (2 * REACH)) - 0.5, HEIGHTS)
    sector = np.floor(angle * (ANGLES / (2 * np.pi))).astype(np.int64) % ANGLES
    counts = np.zeros(HEIGHTS * RADII * ANGLES)
    for at_ring, ring_share in ring:
        for at_level, level_share in level:
            place = (at_level * RADII + at_ring) * ANGLES + sector
            counts += np.bincount(place, ring_share * level_share, minlength=len(counts))
    # Square roots, so that a few crowded cells do not hide the rest.
    shares = np.sqrt(counts / len(cells)).reshape(HEIGHTS * RADII, ANGLES)
    spectrum = np.fft.rfft(shares, axis=1)[:, :FREQUENCIES]
    return np.ascontiguousarray(spectrum.T).astype(np.complex64)


def _normalized(points: np.ndarray) -> np.ndarray:
    """Centres (m, 3) of occupied voxels, with mean 0 and root mean square distance 1.

    Voxels instead of points, so that a densely sampled part does not draw the centre to itself.
    """
    # Coordinates of any size come near 1 first, so that no square overflows.
    cells = points / max(float(np.abs(points).max()), np.finfo(np.float64).tiny)
    for _ in range(_PASSES):
        cells = _standard(cells)
        cells = _occupied(cells)
    return _standard(cells)


def _standard(points: np.ndarray) -> np.ndarray:
    centred = points - points.mean(axis=0)
    scale = np.sqrt((centred**2).sum(axis=1).mean())
    return centred / scale if scale > 0 else centred


def _occupied(points: np.ndarray) -> np.ndarray:
    """Mean of the points in each occupied voxel."""
    grid = np.floor(np.clip(points * (1 / _VOXEL), -512, 511)).astype(np.int64) + 512
    key = (grid[:, 0] << 20) | (grid[:, 1] << 10) | grid[:, 2]
    _, place, count = np.unique(key, return_inverse=True, return_counts=True)
    return np.stack([np.bincount(place, points[:, axis]) / count for axis in range(3)], axis=1)


def _linear_bins(position: np.ndarray, bins: int) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """The two nearest bins of each position and their shares, so that a small shift changes little."""
    position = np.clip(position, 0, bins - 1)
    low = np.minimum(position.astype(np.int64), bins - 2)
    share = position - low
    return (low, 1 - share), (low + 1, share)
