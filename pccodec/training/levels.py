"""Octree levels of whole simulated clouds, for training the coder of the geometry layers.

The geometry coder sees whole clouds: their coarse levels, their statistics, and
sparse captures beside dense surfaces. Clouds are drawn once and cached as Morton
codes; batches are parts of levels with a rim of neighbours around them.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pccodec.sparse import neighbors as maps
from pccodec.training import scans, shapes
from pccodec.voxels import morton
from pccodec.voxels.octree import Octree

KINDS = ("dense", "depth", "spinning", "aerial")
KIND_SHARES = (0.58, 0.14, 0.15, 0.13)
_SIZE = 1024
_RIM = 2


@dataclass(frozen=True)
class Level:
    """One geometry layer to learn from.

    Attributes:
        level: ``l`` of the layer ``G_l``.
        neighbors: int32 (n, 27), the map of ``X_{l+1}``.
        occupancy: uint8 (n,), child bits of each node.
        counts: number of nodes of every level of the cloud.
        codes: uint64 (n,), the nodes of ``X_{l+1}``.
        ranks: int8 (n, K), latent ranks of the nodes, if there are any: known before ``G_l``.
    """

    level: int
    neighbors: np.ndarray
    occupancy: np.ndarray
    counts: dict[int, int]
    codes: np.ndarray
    ranks: np.ndarray | None = None


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


def octree_of(codes: np.ndarray) -> Octree:
    """The octree of sorted codes, no deeper than they need."""
    depth = max(1, -(-int(codes[-1]).bit_length() // 3))
    return Octree.build(codes, depth)


def levels_of(octree: Octree, ranks: Mapping[int, np.ndarray] | None = None) -> list[Level]:
    """All geometry layers of a cloud; entry ``l`` is ``G_l``.

    Args:
        octree: the cloud.
        ranks: latent ranks int8 (n, K) of the nodes of ``X_l``, by level ``l``.
    """
    latents = ranks or {}
    counts = {level: len(codes) for level, codes in enumerate(octree.codes)}
    neighbors, found = maps.root_map(), []
    for level in range(octree.depth - 1, -1, -1):
        codes, occupancy = octree.codes[level + 1], octree.occupancy[level]
        found.append(Level(level, neighbors, occupancy, counts, codes, latents.get(level + 1)))
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

    def octree(self, index: int) -> Octree:
        """A cloud."""
        return octree_of(self._codes[self._offsets[index] : self._offsets[index + 1]])

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


def cut(level: Level, start: int, stop: int) -> tuple[Level, np.ndarray]:
    """Nodes ``start``…``stop`` of a level with a rim of neighbours, and which of them are inside.

    Nodes beyond the rim are treated as absent; the mask, bool (n,), says which
    nodes to score.
    """
    count = len(level.occupancy)
    keep = np.zeros(count + 1, dtype=bool)
    keep[start:stop] = True
    for _ in range(_RIM):
        keep[np.unique(level.neighbors[keep[:count]])] = True
    keep[count] = False
    chosen = np.flatnonzero(keep)
    renumber = np.full(count + 1, len(chosen), dtype=np.int32)
    renumber[chosen] = np.arange(len(chosen), dtype=np.int32)
    inside = (chosen >= start) & (chosen < stop)
    part = Level(
        level.level,
        renumber[level.neighbors[chosen]],
        level.occupancy[chosen],
        level.counts,
        level.codes[chosen],
        None if level.ranks is None else level.ranks[chosen],
    )
    return part, inside
