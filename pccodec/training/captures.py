"""Simulated captures of whole shapes, for training and testing hashes: noise, density, partial views."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pccodec.errors import InputError
from pccodec.hashing.descriptor import upright
from pccodec.training.shapes import random_rotation, sample_surface

Y_UP = ("human",)
"""Families (prefixes of file names) whose vertical is y; that of the others is z."""


@dataclass(frozen=True)
class CaptureConfig:
    """How a capture is drawn. Lengths are relative to the diagonal of the bounding box.

    Attributes:
        points: fewest and most points before any are lost; the number's logarithm is uniform.
        noise: smallest and largest standard deviation, in all directions; uniform between.
        rotated: whether the shape is turned about the vertical by any angle.
        uneven: share of the captures whose density falls along a direction, down to a tenth.
        cropped: share of those that lose what lies beyond a plane, up to ``crop`` of the points.
        viewed: share of those that hold only what is seen from one side.
    """

    points: tuple[int, int] = (2048, 8192)
    noise: tuple[float, float] = (0.0, 0.01)
    rotated: bool = True
    uneven: float = 0.0
    cropped: float = 0.0
    viewed: float = 0.0
    crop: float = 0.3


NOISY = CaptureConfig()
"""A capture all around, with noise, turned about the vertical."""

CONDITIONS = {
    "noise": replace(NOISY, rotated=False),
    "noise and rotation": NOISY,
    "density": replace(NOISY, points=(384, 32768), uneven=1.0),
    "cropped": replace(NOISY, cropped=1.0),
    "one view": replace(NOISY, points=(8192, 16384), viewed=1.0),
}
"""What retrieval is measured under."""

TRAINING = CaptureConfig(points=(384, 16384), uneven=0.3, cropped=0.2, viewed=0.2)


def load_triangles(file: Path) -> np.ndarray:
    """Triangles float32 (m, 3, 3) of a mesh file, up along z.

    Raises:
        InputError: the file holds no mesh.
    """
    try:
        with np.load(file) as mesh:
            verts, faces = mesh["verts"], mesh["faces"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{file} is not a mesh (*.npz with verts and faces): {error}") from error
    if file.name.split("_")[0] in Y_UP:
        verts = upright(verts, "y")
    triangles: np.ndarray = verts[faces]
    return triangles


def capture_shape(triangles: np.ndarray, config: CaptureConfig, rng: np.random.Generator) -> np.ndarray:
    """A capture, float32 (n, 3), of triangles (m, 3, 3), up along z."""
    low, high = np.log(config.points)
    # A coordinate at a time: many times as fast as along the first axis of rows of three.
    size = float(np.linalg.norm([np.ptp(triangles[..., axis]) for axis in range(3)]))
    points, _ = sample_surface(triangles, int(np.exp(rng.uniform(low, high))), rng)
    if rng.random() < config.viewed:
        points = _seen(points, _side(rng), size)
    if rng.random() < config.cropped:
        along = points @ random_rotation(rng)[0]
        points = points[along >= np.quantile(along, rng.uniform(0.0, config.crop))]
    if rng.random() < config.uneven:
        along = points @ random_rotation(rng)[0]
        share = (along - along.min()) / max(float(np.ptp(along)), 1e-9)
        points = points[rng.random(len(points)) < 0.1 + 0.9 * share]
    points = points + rng.normal(scale=rng.uniform(*config.noise) * size, size=points.shape)
    if config.rotated:
        angle = rng.uniform(0.0, 2 * np.pi)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        points[:, :2] = points[:, :2] @ turn.T
    return points.astype(np.float32)


def _side(rng: np.random.Generator) -> np.ndarray:
    """A view direction (3,): from all around, up to 45 degrees above or below the horizon."""
    height, angle = rng.uniform(-0.7, 0.7), rng.uniform(0.0, 2 * np.pi)
    return np.array([np.cos(angle) * np.sqrt(1 - height**2), np.sin(angle) * np.sqrt(1 - height**2), height])


def _seen(points: np.ndarray, direction: np.ndarray, size: float, pixels: int = 48) -> np.ndarray:
    """The points that are nearest to a far viewer in their pixel, or hardly behind the nearest.

    In clouds of a few thousand points some pixels in front stay empty, and what is behind them is seen.
    """
    right = np.cross(direction, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    above = np.cross(right, direction)
    pixel = np.floor(np.stack([points @ right, points @ above]) * (pixels / size)).astype(np.int64)
    pixel -= pixel.min(axis=1, keepdims=True)
    place = pixel[0] * (pixel[1].max() + 1) + pixel[1]
    depth = points @ direction
    nearest = np.full(place.max() + 1, -np.inf)
    np.maximum.at(nearest, place, depth)
    return points[depth >= nearest[place] - 1.5 * size / pixels]
