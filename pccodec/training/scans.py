"""Simulated captures that are sparse or seen from one side.

Three kinds: a spinning laser scanner in a street scene, an airborne laser scan
of terrain, buildings and trees, and a depth camera looking into a room. Scenes
are made of a ground, boxes and ellipsoids, for which rays have closed forms.
Every function returns the points in voxel units; none needs a mesh.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_FAR = 1e9


@dataclass(frozen=True)
class Scene:
    """Ground and obstacles in metres; z points up and the ground lies around z = 0.

    Attributes:
        lower, upper: corners of axis-aligned boxes, (b, 3).
        yaw: rotation of each box about its own vertical axis, radians, (b,).
        centers, radii: ellipsoids, (e, 3). They are porous like foliage: rays
            enter them to a random depth.
        slope: gradient of the ground along x and y, (2,).
    """

    lower: np.ndarray
    upper: np.ndarray
    yaw: np.ndarray
    centers: np.ndarray
    radii: np.ndarray
    slope: np.ndarray


def street_scene(rng: np.random.Generator) -> Scene:
    """Houses along a street, cars, poles, bushes and trees within about 80 m."""
    houses, cars, poles, trees = (
        rng.integers(low, high) for low, high in ((6, 20), (4, 25), (4, 25), (3, 30))
    )
    side = rng.choice([-1.0, 1.0], houses)
    house = np.stack([rng.uniform(-70, 70, houses), side * rng.uniform(8, 30, houses)], 1)
    car = np.stack([rng.uniform(-50, 50, cars), rng.choice([-1, 1], cars) * rng.uniform(2.5, 9, cars)], 1)
    pole = np.stack([rng.uniform(-50, 50, poles), rng.choice([-1, 1], poles) * rng.uniform(4, 14, poles)], 1)
    at = np.concatenate([house, car, pole])
    half = np.concatenate(
        [
            rng.uniform([3, 2], [12, 6], (houses, 2)),
            rng.uniform([1.7, 0.75], [2.6, 1.0], (cars, 2)),
            rng.uniform(0.04, 0.25, (poles, 1)).repeat(2, axis=1),
        ]
    )
    height = np.concatenate(
        [rng.uniform(2, 15, houses), rng.uniform(1.3, 2.2, cars), rng.uniform(2, 9, poles)]
    )
    low = np.column_stack([at - half, np.full(len(at), -1.0)])
    high = np.column_stack([at + half, height])
    yaw = np.concatenate([rng.normal(0, 0.1, houses + cars), np.zeros(poles)]) + rng.uniform(-0.3, 0.3)
    radii = rng.uniform([0.4, 0.4, 0.4], [3.5, 3.5, 3.0], (trees, 3))
    centers = np.column_stack(
        [
            rng.uniform(-60, 60, trees),
            rng.choice([-1, 1], trees) * rng.uniform(5, 40, trees),
            rng.uniform(0, 5, trees),
        ]
    )
    return Scene(low, high, yaw, centers, radii, rng.normal(0, 0.01, 2))


def room_scene(rng: np.random.Generator) -> Scene:
    """Desks, cupboards and clutter in a room of a few metres, walls included."""
    walls = np.array([[4.0, -4, -1], [-4, 3.5, -1], [-4, -3.6, -1]])
    wall_tops = np.array([[4.2, 4, 3], [4, 3.7, 3], [4, -3.5, 3]])
    count = rng.integers(10, 50)
    at = np.column_stack([rng.uniform(0.8, 4, count), rng.uniform(-3, 3, count), rng.uniform(0, 1.2, count)])
    half = np.exp(rng.uniform(np.log(0.03), np.log(0.7), (count, 3)))
    blobs = rng.integers(2, 12)
    centers = np.column_stack(
        [rng.uniform(1, 3.5, blobs), rng.uniform(-2, 2, blobs), rng.uniform(0, 1.5, blobs)]
    )
    return Scene(
        np.concatenate([walls, at - half]),
        np.concatenate([wall_tops, at + half]),
        np.concatenate([np.zeros(3), rng.uniform(-np.pi, np.pi, count)]),
        centers,
        rng.uniform(0.05, 0.5, (blobs, 3)),
        np.zeros(2),
    )


def cast(
    scene: Scene, origin: np.ndarray, rays: np.ndarray, rng: np.random.Generator, porosity: float
) -> np.ndarray:
    """Distance, float64 (n,), of unit rays (n, 3) from the origin (3,) to what they hit; far if nothing."""
    normal = np.array([-scene.slope[0], -scene.slope[1], 1.0])
    down = rays @ normal
    with np.errstate(divide="ignore", invalid="ignore"):
        ground = -(origin @ normal) / down
        best = np.where((ground > 0) & (down < 0), ground, _FAR)
        for low, high, yaw in zip(scene.lower, scene.upper, scene.yaw, strict=True):
            middle, half = (low + high) / 2, (high - low) / 2
            turn = np.array([[np.cos(yaw), np.sin(yaw), 0], [-np.sin(yaw), np.cos(yaw), 0], [0, 0, 1.0]])
            start, ray = turn @ (origin - middle), rays @ turn.T
            first, second = (-half - start) / ray, (half - start) / ray
            enter = np.minimum(first, second).max(axis=1)
            leave = np.maximum(first, second).min(axis=1)
            best = np.where((enter < leave) & (enter > 0) & (enter < best), enter, best)
        for center, radius in zip(scene.centers, scene.radii, strict=True):
            start, ray = (origin - center) / radius, rays / radius
            a, b, c = (ray**2).sum(axis=1), ray @ start, start @ start - 1
            root = b * b - a * c
            near = (-b - np.sqrt(np.maximum(root, 0))) / a
            depth = near + rng.exponential(porosity, len(rays))
            leave = (-b + np.sqrt(np.maximum(root, 0))) / a
            best = np.where((root > 0) & (near > 0) & (depth < leave) & (depth < best), depth, best)
    return best


def spinning_scan(rng: np.random.Generator) -> np.ndarray:
    """One turn of a spinning laser scanner, points in voxels of 1.5 to 12 cm, float64 (n, 3)."""
    beams = int(rng.choice([32, 64, 64, 128]))
    low, high = rng.uniform(-26, -22), rng.uniform(1, 6)
    elevation = np.radians(np.linspace(low, high, beams) + rng.normal(0, 0.03, beams))
    steps = int(120_000 * rng.uniform(0.6, 1.2) / beams)
    azimuth = np.linspace(0, 2 * np.pi, steps, endpoint=False)
    azimuth = (azimuth + rng.uniform(0, 0.01, (beams, 1))).reshape(-1)
    elevation = np.repeat(elevation, steps)
    rays = np.column_stack(
        [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)]
    )
    scene = street_scene(rng)
    height = rng.uniform(1.5, 2.3)
    distance = cast(scene, np.array([0.0, 0.0, height]), rays, rng, porosity=rng.uniform(0.2, 1.0))
    keep = (
        (distance < rng.uniform(60, 120)) & (distance > 1.5) & (rng.random(len(rays)) > rng.uniform(0, 0.15))
    )
    sigma = rng.uniform(0.002, 0.022)
    distance = distance[keep] + rng.normal(0, sigma, int(keep.sum()))
    rough = rng.normal(0, rng.uniform(0, 0.015), len(distance))
    points = rays[keep] * distance[:, None]
    points[:, 2] += rough
    return points / np.exp(rng.uniform(np.log(0.015), np.log(0.12)))


def _terrain(rng: np.random.Generator, xy: np.ndarray, size: float) -> np.ndarray:
    """Height, float64 (n,), of smooth random terrain at xy (n, 2)."""
    z = np.zeros(len(xy))
    for octave in range(6):
        wave = rng.normal(size=(3, 2)) * 2**octave * 2 * np.pi / size
        amplitude = 0.03 * size * rng.uniform(0.1, 1) * 2.0 ** (-1.3 * octave)
        z += amplitude * np.sin(xy @ wave.T + rng.uniform(0, 6.28, 3)).sum(axis=1)
    return z


def aerial_scan(rng: np.random.Generator) -> np.ndarray:
    """An airborne scan with houses and trees, points in voxels, float64 (n, 3)."""
    count = int(rng.integers(30_000, 130_000))
    size = np.sqrt(count / np.exp(rng.uniform(np.log(0.08), np.log(1.2))))
    if rng.random() < 0.5:
        xy = rng.random((count, 2)) * size * [1.0, rng.uniform(0.4, 1.0)]
    else:
        # Scan lines across the flight, as a swinging mirror leaves them.
        pitch = size / np.sqrt(count)
        spacing = pitch * rng.uniform(0.6, 1.8)
        path = np.arange(count) * pitch**2 / spacing
        sweep = np.abs((path / size) % 2 - 1) * size
        xy = np.column_stack([np.floor(path / size) * spacing, sweep])
        xy += rng.normal(0, 0.15 * pitch, (count, 2))
    relief = rng.uniform(0.05, 1.0)
    z = _terrain(rng, xy, size) * relief
    unit = size / 300
    for _ in range(rng.integers(0, 60)):
        center, yaw = rng.random(2) * size, rng.uniform(0, np.pi)
        local = (xy - center) @ np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
        half = rng.uniform(2, 12, 2) * unit
        inside = (np.abs(local) < half).all(axis=1)
        if inside.any():
            roof = z[inside].mean() + rng.uniform(2, 10) * unit
            pitch = rng.choice([0.0, rng.uniform(0.2, 0.8)])
            z[inside] = roof - pitch * np.abs(local[inside, 1])
    for _ in range(rng.integers(0, 400)):
        center, radius = rng.random(2) * size, rng.uniform(1, 6) * unit
        inside = ((xy - center) ** 2).sum(axis=1) < radius**2
        crown = rng.uniform(2, 12) * unit
        z[inside] += crown * np.where(
            rng.random(int(inside.sum())) < 0.7, rng.beta(3, 1.5, int(inside.sum())), 0
        )
    z += rng.normal(0, rng.uniform(0.02, 0.4), len(z))
    z *= rng.uniform(0.5, 1.5)
    if rng.random() < 0.4:
        # Heights stored in coarser units than the voxels leave some planes empty and others crowded.
        step = rng.uniform(0.6, 2.5)
        z = np.round(z / step) * step
    return np.column_stack([xy, z])


def depth_capture(rng: np.random.Generator) -> np.ndarray:
    """Depth-camera views of a room, quantized in disparity and noisy, points in voxels, float64 (n, 3).

    Half are one view in the camera's own axes: its depth steps are then planes of the grid.
    """
    scene = room_scene(rng)
    width = int(rng.integers(300, 640))
    rows = width * 3 // 4
    u, v = np.meshgrid(np.arange(width) - width / 2, np.arange(rows) - rows / 2)
    camera = np.stack([np.full(u.size, 0.95 * width), -u.ravel(), -v.ravel()], axis=1)
    camera /= np.linalg.norm(camera, axis=1, keepdims=True)
    steps = np.exp(rng.uniform(np.log(60), np.log(1500)))
    sigma = rng.uniform(0.0, 1.2)
    views = []
    aligned = rng.random() < 0.5
    for _ in range(1 if aligned else rng.integers(1, 4)):
        pitch, yaw = (0.0, 0.0) if aligned else (rng.uniform(-0.5, 0.1), rng.uniform(-0.4, 0.4))
        tilt = np.array([[np.cos(pitch), 0, -np.sin(pitch)], [0, 1, 0], [np.sin(pitch), 0, np.cos(pitch)]])
        turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
        rays = camera @ (turn @ tilt).T
        origin = np.array([0.0, rng.uniform(-1, 1), rng.uniform(1.0, 1.8)])
        distance = cast(scene, origin, rays, rng, porosity=0.02)
        depth = distance * camera[:, 0]
        seen = (depth > 0.4) & (depth < 6)
        disparity = steps / depth[seen] + rng.normal(0, sigma, int(seen.sum()))
        if rng.random() < 0.6:
            disparity = np.round(disparity)
        depth_seen = steps / np.maximum(disparity, 1.0)
        views.append(origin + rays[seen] * (depth_seen / camera[seen, 0])[:, None])
    points = np.concatenate(views)[:, rng.permutation(3)] * rng.choice([-1.0, 1.0], 3)
    points = points[rng.random(len(points)) > rng.uniform(0, 0.4)]
    extent = np.exp(rng.uniform(np.log(200), np.log(1000)))
    return points * (extent / np.ptp(points, axis=0).max())
