"""What a hash sees of a cloud: where its points lie around a vertical axis, as angular spectra, and its size.

The cloud is centred and scaled, its points are counted in a cylindrical grid (angle, radius,
height), and each ring is Fourier transformed along the angle. A rotation about the vertical by φ
multiplies the coefficient of frequency ``k`` by ``e^(−ikφ)``, everywhere alike; nothing else
changes but for the width of the bins.

The size ``s``, the root mean square distance from the centre in octaves, is told by waves
``e^(2πi·2^k·s/64)``: the long ones tell millimetres from metres, the short ones a few percent.
"""

from __future__ import annotations

import numpy as np

ANGLES = 64
RADII = 8
HEIGHTS = 16
FREQUENCIES = 9
"""Frequencies 0…8 are kept: finer ones are noise in clouds of a few hundred points."""

CELLS = HEIGHTS * RADII
"""Columns of a descriptor that hold spectra; the size has the column after them."""

OCTAVES = 64
"""Length of the longest wave of the size: sizes may differ by 2^±32."""

REACH = 2.4
"""The grid reaches to so many root mean square distances from the centre; beyond stand few points."""

UPRIGHT = {"x": ((1, 2, 0), (1, 1, 1)), "y": ((0, 2, 1), (1, -1, 1)), "z": ((0, 1, 2), (1, 1, 1))}
"""For each axis that may point up: the axes, and their signs, that become x, y and z."""

_VOXEL = 1.0 / 32.0
"""In root mean square distances. Coarser ones forgive uneven density better; these keep near twins apart."""
_PASSES = 2


def upright(points: np.ndarray, up: str) -> np.ndarray:
    """Points (…, 3) turned so that their axis ``up`` ("x", "y" or "z") is z."""
    axes, signs = UPRIGHT[up]
    turned: np.ndarray = points[..., axes] * np.array(signs, dtype=points.dtype)
    return turned


def descriptor(points: np.ndarray) -> np.ndarray:
    """Angular spectra and size of a cloud, up along z.

    Args:
        points: (n, 3), n ≥ 1, finite.

    Returns:
        complex64 (FREQUENCIES, CELLS + 1): spectra, frequency 0 of them real; in the last column the
        waves of the size, or zeros for a cloud without extent.
    """
    cells, size = _normalized(np.asarray(points, dtype=np.float64))
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
    shares = np.sqrt(counts / len(cells)).reshape(CELLS, ANGLES)
    out = np.empty((FREQUENCIES, CELLS + 1), dtype=np.complex64)
    out[:, :CELLS] = np.fft.rfft(shares, axis=1)[:, :FREQUENCIES].T
    out[:, CELLS] = size_waves(size)
    return out


def size_waves(size: float | np.ndarray) -> np.ndarray:
    """Waves complex64 (…, FREQUENCIES) of sizes (…) in octaves; zeros of −∞."""
    turns = np.nan_to_num(np.asarray(size)[..., None], neginf=0.0) * (2.0 ** np.arange(FREQUENCIES) / OCTAVES)
    waves = np.exp(2j * np.pi * turns) * np.isfinite(size)[..., None]
    return waves.astype(np.complex64)


def _normalized(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Centres (m, 3) of occupied voxels, with mean 0 and root mean square distance 1, and the size.

    Voxels instead of points, so that a densely sampled part does not draw the centre to itself.
    The size is the log2 of the root mean square distance before; −∞ if all is one point.
    """
    # Coordinates of any size come near 1 first, so that no square overflows.
    largest = max(float(np.abs(points).max()), np.finfo(np.float64).tiny)
    cells, size = points / largest, float(np.log2(largest))
    for _ in range(_PASSES):
        cells, scale = _standard(cells)
        cells, size = _occupied(cells), size + scale
    cells, scale = _standard(cells)
    return cells, size + scale


def _standard(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Points (n, 3) centred and scaled, and the log2 of the scale."""
    centred = points - points.mean(axis=0)
    scale = float(np.sqrt((centred**2).sum(axis=1).mean()))
    return (centred / scale, float(np.log2(scale))) if scale > 0 else (centred, -np.inf)


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
