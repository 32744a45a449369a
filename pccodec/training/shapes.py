"""Training blocks: meshes, posed and sampled like captured clouds, cut into voxel cubes.

A block is the sorted Morton codes of the occupied voxels in a cube of
``2**bits`` voxels. Blocks are drawn as users' clouds look: smooth and noisy
surfaces, thin and full sampling, uneven density, holes, any orientation.
"""

from __future__ import annotations

import logging
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pccodec.errors import InputError
from pccodec.io import atomic_write
from pccodec.voxels import morton

logger = logging.getLogger(__name__)

BLOCK_BITS = 7
"""Blocks are cubes of 128 voxels: 16 nodes of stride 8 along each side."""

FAMILY_WEIGHTS = {"human": 6.0, "odst": 8.0, "cgal": 5.0, "ycb": 6.0, "libero": 2.0, "myo": 2.0, "draco": 4.0}
"""How often a family of shapes (the prefix of its file name) is drawn against the rest (1)."""


@dataclass(frozen=True)
class ShapeConfig:
    """How blocks are drawn. Lengths are in voxels, densities in points per squared voxel."""

    min_extent: float = 120.0
    max_extent: float = 1200.0
    max_noise: float = 0.8
    noisy_share: float = 0.6
    thin_share: float = 0.15
    uneven_share: float = 0.3
    hole_share: float = 0.15
    aligned_share: float = 0.3
    crops_per_pose: int = 3
    min_voxels: int = 500


def mesh_files(folder: Path) -> list[Path]:
    """The meshes (``*.npz`` with ``verts`` and ``faces``) of a folder, sorted by name."""
    files = sorted(folder.glob("*.npz"))
    if not files:
        raise InputError(f"{folder} holds no training meshes (*.npz with verts and faces)")
    return files


def split_files(files: list[Path]) -> tuple[list[Path], list[Path]]:
    """Training meshes and held-out meshes: every 25th, or the last of a few, is never trained on.

    Raises:
        InputError: there is only one mesh.
    """
    held_out = files[12::25] or files[-1:]
    kept = [file for file in files if file not in set(held_out)]
    if not kept:
        raise InputError("training takes at least two meshes: one is held out for validation")
    return kept, held_out


def file_weights(files: list[Path]) -> np.ndarray:
    """Probability, float64 (n,), of each mesh file by its family."""
    weights = np.array([FAMILY_WEIGHTS.get(file.name.split("_")[0], 1.0) for file in files])
    return weights / weights.sum()


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    """A uniformly distributed rotation matrix, float64 (3, 3)."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    if np.linalg.det(q) < 0:
        q[:, 0] = -q[:, 0]
    return q


def under_symmetry(
    codes: np.ndarray, axes: np.ndarray, flips: np.ndarray, top: int | np.ndarray
) -> np.ndarray:
    """Sorted Morton codes uint64 (n,) of voxels under a symmetry of the cube.

    Args:
        codes: Morton codes, uint64 (n,).
        axes: int64 (3,), which axis each new one was before.
        flips: bool (3,), the new axes that are reversed.
        top: the coordinate that becomes 0 on them, for all or (3,).
    """
    coords = morton.decode(codes)[:, axes]
    return np.sort(morton.encode(np.where(flips, top - coords, coords)))


def sample_surface(
    triangles: np.ndarray, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Points (count, 3), uniform by area on triangles (m, 3, 3), and their unit normals (count, 3)."""
    a, b, c = triangles[:, 0], triangles[:, 1], triangles[:, 2]
    cross = np.cross(b - a, c - a)
    norm = np.linalg.norm(cross, axis=1)
    face = np.searchsorted(np.cumsum(norm), rng.random(count) * norm.sum())
    face = np.minimum(face, len(norm) - 1)
    u, v = rng.random((2, count, 1), dtype=np.float32)
    flip = u + v > 1
    u, v = np.where(flip, 1 - u, u), np.where(flip, 1 - v, v)
    points = a[face] + u * (b - a)[face] + v * (c - a)[face]
    return points, (cross / np.maximum(norm, 1e-12)[:, None])[face]


def _pose(verts: np.ndarray, config: ShapeConfig, rng: np.random.Generator) -> np.ndarray:
    """Vertices rotated and scaled to voxel units."""
    verts = verts - verts.mean(axis=0)
    if rng.random() > config.aligned_share:
        verts = verts @ random_rotation(rng).astype(np.float32)
    extent = np.exp(rng.uniform(np.log(config.min_extent), np.log(config.max_extent)))
    return verts * np.float32(extent / max(float(np.ptp(verts, axis=0).max()), 1e-9))


def capture(triangles: np.ndarray, config: ShapeConfig, rng: np.random.Generator, size: int) -> np.ndarray:
    """Simulated capture of triangles (m, 3, 3) around the cube [0, size)³: points float32 (n, 3)."""
    area = (
        0.5
        * np.linalg.norm(
            np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]), axis=1
        ).sum()
    )
    thin = rng.random() < config.thin_share
    density = np.exp(rng.uniform(np.log(0.25), 0.0) if thin else rng.uniform(0.3, np.log(8.0)))
    points, normals = sample_surface(triangles, int(min(density * area + 1, 1_500_000)), rng)
    inside = ((points > -2) & (points < size + 2)).all(axis=1)
    points, normals = points[inside], normals[inside]
    if rng.random() < config.noisy_share:
        sigma = rng.uniform(0.0, config.max_noise)
        # Range noise stands along the normal; a little spreads in all directions.
        along = rng.normal(scale=sigma, size=(len(points), 1)).astype(np.float32)
        points = points + normals * along
        points += rng.normal(scale=0.25 * sigma, size=points.shape).astype(np.float32)
    keep = np.ones(len(points), dtype=bool)
    if rng.random() < config.uneven_share:
        axis = random_rotation(rng)[0].astype(np.float32)
        ramp = (points @ axis) / size
        ramp = (ramp - ramp.min(initial=0.0)) / max(float(np.ptp(ramp)) if len(ramp) else 1.0, 1e-6)
        keep &= rng.random(len(points)) < np.clip(0.1 + 1.4 * ramp, 0.0, 1.0)
    if rng.random() < config.hole_share:
        for center in rng.uniform(0, size, size=(rng.integers(1, 12), 3)):
            keep &= ((points - center) ** 2).sum(axis=1) > rng.uniform(2, 0.15 * size) ** 2
    return points[keep].astype(np.float32, copy=False)


def voxel_codes(points: np.ndarray, size: int) -> np.ndarray:
    """Sorted distinct Morton codes, uint64, of the points (n, 3) inside the cube [0, size)³."""
    voxels = np.floor(points).astype(np.int64)
    inside = ((voxels >= 0) & (voxels < size)).all(axis=1)
    return np.unique(morton.encode(voxels[inside]))


def pose_blocks(file: Path, config: ShapeConfig, seed: int, bits: int = BLOCK_BITS) -> list[np.ndarray]:
    """Blocks of one posed mesh: a list of sorted Morton codes, uint64."""
    rng = np.random.default_rng(seed)
    size = 1 << bits
    with np.load(file) as mesh:
        verts, faces = mesh["verts"], mesh["faces"]
    verts = _pose(verts, config, rng)
    triangles = verts[faces]
    blocks = []
    for _ in range(config.crops_per_pose):
        corner = sample_surface(triangles, 1, rng)[0][0] - rng.uniform(0.2, 0.8, 3) * size
        local = triangles - corner.astype(np.float32)
        near = (local.max(axis=1) > -1).all(axis=1) & (local.min(axis=1) < size + 1).all(axis=1)
        if not near.any():
            continue
        codes = voxel_codes(capture(local[near], config, rng, size), size)
        if len(codes) >= config.min_voxels:
            blocks.append(codes)
    return blocks


class BlockCache:
    """Blocks in two flat files, mapped into memory: ``blocks.npy`` and ``offsets.npy``."""

    def __init__(self, folder: Path) -> None:
        self.codes = np.load(folder / "blocks.npy", mmap_mode="r")
        self.offsets = np.load(folder / "offsets.npy")

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> np.ndarray:
        """Sorted Morton codes, uint64, of a block."""
        return self.codes[self.offsets[index] : self.offsets[index + 1]].astype(np.uint64)

    @classmethod
    def build(
        cls, files: list[Path], folder: Path, count: int, seed: int, workers: int, config: ShapeConfig
    ) -> BlockCache:
        """Draw about ``count`` blocks from the given meshes and store them in ``folder``."""
        rng = np.random.default_rng(seed)
        poses = -(-count // config.crops_per_pose)
        drawn = rng.choice(len(files), size=poses, p=file_weights(files))
        chosen = [files[i] for i in drawn]
        seeds = rng.integers(0, 2**62, size=poses)
        blocks: list[np.ndarray] = []
        with ProcessPoolExecutor(workers) as pool:
            for made in pool.map(pose_blocks, chosen, [config] * poses, seeds, chunksize=8):
                blocks += [codes.astype(np.uint32) for codes in made]
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(folder / "blocks.npy") as file:
            np.save(file, np.concatenate(blocks))
        # Last: where it stands, the cache is complete.
        with atomic_write(folder / "offsets.npy") as file:
            np.save(file, np.cumsum([0, *map(len, blocks)]))
        return cls(folder)


def block_caches(
    data: Path, folder: Path, count: int, seed: int, workers: int
) -> tuple[BlockCache, BlockCache]:
    """Training and held-out blocks kept in ``folder``, drawn now if it has none.

    Args:
        data: folder of meshes, read only if blocks must be drawn.
        folder: takes ``train`` and ``held_out``.
        count: training blocks to draw.
        seed: of the drawing.
        workers: processes that draw.

    Raises:
        InputError: blocks must be drawn and ``data`` holds fewer than two meshes.
    """
    if not (folder / "train" / "offsets.npy").exists():
        logger.info("drawing %d blocks from %s into %s", count, data, folder)
        kept, held_out = split_files(mesh_files(data))
        BlockCache.build(held_out, folder / "held_out", 64, seed, workers, ShapeConfig())
        BlockCache.build(kept, folder / "train", count, seed, workers, ShapeConfig())
    return BlockCache(folder / "train"), BlockCache(folder / "held_out")
