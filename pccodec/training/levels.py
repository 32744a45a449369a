"""Octree levels of whole simulated clouds, for training the coder of the geometry layers.

The geometry coder sees whole clouds: their coarse levels, their statistics, and
sparse captures beside dense surfaces. Clouds are drawn once and cached as Morton codes.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pccodec.sparse import neighbors as maps
from pccodec.training import scans, shapes
from pccodec.voxels import morton
from pccodec.voxels.octree import Octree

KINDS = ("dense", "depth", "spinning", "aerial")
SCANS = ("spinning", "aerial")
"""Kinds whose third axis is the vertical."""
KIND_SHARES = (0.58, 0.14, 0.15, 0.13)
_SIZE = 1024


@dataclass(frozen=True)
class Level:
    """One geometry layer to learn from.

    Attributes:
        level: ``l`` of the layer ``G_l``.
        neighbors: int32 (n, 27), the map of ``X_{l+1}``.
        occupancy: uint8 (n,), child bits of each node.
        counts: number of nodes of every level of the cloud.
        codes: uint64 (n,), the nodes of ``X_{l+1}``.
    """

    level: int
    neighbors: np.ndarray
    occupancy: np.ndarray
    counts: dict[int, int]
    codes: np.ndarray


def draw_cloud(file: Path, kind: str, seed: int) -> np.ndarray:
    """Sorted Morton codes, uint64, of a simulated capture; the mesh ``file`` serves dense ones."""
    rng = np.random.default_rng(seed)
    if kind == "dense":
        with np.load(file) as mesh:
            verts, faces = mesh["verts"], mesh["faces"]
        if rng.random() < 0.7:
            verts = verts @ shapes.random_rotation(rng).astype(np.float32)
        verts = verts - verts.min(axis=0)
        extent = np.exp(rng.uniform(np.log(90), np.log(520)))
        verts = (verts * (extent / verts.max()) + rng.random(3) * 64).astype(np.float32)
        points = shapes.capture(verts[faces], shapes.ShapeConfig(), rng, _SIZE)
    else:
        points = {
            "depth": scans.depth_capture,
            "spinning": scans.spinning_scan,
            "aerial": scans.aerial_scan,
        }[kind](rng)
        points = points - points.min(axis=0) + rng.random(3) * 8
    voxels = np.floor(np.maximum(points, 0)).astype(np.int64)
    return np.unique(morton.encode(voxels))


def mirrored_cloud(codes: np.ndarray, upright: bool, rng: np.random.Generator) -> np.ndarray:
    """A cloud under a random symmetry of the cube, as sorted codes; reversed axes begin at 0 to 7.

    Args:
        codes: sorted Morton codes, uint64 (n,).
        upright: whether the third axis stays: scans of scenes have a vertical.
        rng: draws the symmetry.
    """
    axes = np.array([*rng.permutation(2), 2]) if upright else rng.permutation(3)
    flips = rng.random(3) < 0.5
    if upright:
        flips[2] = False
    # A margin moves the cloud against the grid of the coarser levels.
    top = morton.decode(codes)[:, axes].max(axis=0) + rng.integers(0, 8, 3)
    return shapes.under_symmetry(codes, axes, flips, top)


def depth_of(codes: np.ndarray) -> int:
    """Levels that the octree of sorted codes, uint64 (n,), needs."""
    return max(1, -(-int(codes[-1]).bit_length() // 3))


def octree_of(codes: np.ndarray) -> Octree:
    """The octree of sorted codes, no deeper than they need."""
    return Octree.build(codes, depth_of(codes))


def levels_of(octree: Octree) -> list[Level]:
    """All geometry layers of a cloud; entry ``l`` is ``G_l``."""
    counts = {level: len(codes) for level, codes in enumerate(octree.codes)}
    neighbors, found = maps.root_map(), []
    for level in range(octree.depth - 1, -1, -1):
        codes, occupancy = octree.codes[level + 1], octree.occupancy[level]
        found.append(Level(level, neighbors, occupancy, counts, codes))
        if level:
            neighbors = maps.child_map(neighbors, occupancy)
    return found[::-1]


class CloudCache:
    """Simulated clouds in one file: concatenated codes, offsets and kinds."""

    def __init__(self, file: Path) -> None:
        with np.load(file) as stored:
            self._codes, self._offsets, self.kinds = stored["codes"], stored["offsets"], stored["kinds"]

    def __len__(self) -> int:
        return len(self.kinds)

    def codes(self, index: int) -> np.ndarray:
        """Sorted Morton codes, uint64 (n,), of a cloud's voxels."""
        found: np.ndarray = self._codes[self._offsets[index] : self._offsets[index + 1]]
        return found

    def octree(self, index: int) -> Octree:
        """A cloud."""
        return octree_of(self.codes(index))

    @classmethod
    def build(cls, data: Path, file: Path, count: int, seed: int, workers: int = 1) -> CloudCache:
        """Draw ``count`` clouds from the meshes under ``data`` and store them in ``file``."""
        files = shapes.mesh_files(data)
        rng = np.random.default_rng(seed)
        meshes = rng.choice(len(files), size=count, p=shapes.file_weights(files))
        kinds = rng.choice(KINDS, size=count, p=KIND_SHARES)
        seeds = rng.integers(0, 2**62, size=count)
        with ProcessPoolExecutor(workers) as pool:
            clouds = list(pool.map(draw_cloud, [files[i] for i in meshes], kinds, seeds))
        good = [i for i, codes in enumerate(clouds) if len(codes) > 2000]
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(
            file,
            codes=np.concatenate([clouds[i] for i in good]),
            offsets=np.cumsum([0] + [len(clouds[i]) for i in good]),
            kinds=kinds[good],
        )
        return cls(file)
