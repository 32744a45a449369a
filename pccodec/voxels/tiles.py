"""Clouds in tiles: the voxels of each octree-aligned cube in a file of its own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from pccodec.voxels.grid import Grid

MIN_LEVEL = 3
"""Tiles have an edge of at least 8 voxels."""


@dataclass(frozen=True)
class Tile:
    """The voxels of one cube of edge ``2**level``.

    Attributes:
        code: Morton code of the cube, the code of its voxels without the lowest ``3 * level`` bits.
        points: number of voxels, at least one.
        file: ``.npy`` file of their codes in the whole grid, uint64 (points,), strictly increasing.
    """

    code: int
    points: int
    file: Path

    def codes(self) -> np.ndarray:
        """The voxels, uint64 (points,), strictly increasing."""
        codes: np.ndarray = np.load(self.file)
        return codes


@dataclass(frozen=True)
class TiledCloud:
    """A voxelized cloud, cut into tiles that lie on disk.

    Attributes:
        grid: the grid of all tiles.
        level: T, tiles are cubes of edge ``2**T`` voxels, MIN_LEVEL ≤ T ≤ ``grid.bits``.
        tiles: those that are not empty, by code.
        duplicates: input points that shared a voxel with another one and were merged.
    """

    grid: Grid
    level: int
    tiles: tuple[Tile, ...]
    duplicates: int = 0

    @cached_property
    def points(self) -> int:
        """Voxels of all tiles."""
        return sum(tile.points for tile in self.tiles)


def tile_level(codes: np.ndarray, bits: int, most: int) -> int:
    """The coarsest level whose cubes hold at most ``most`` voxels each, at least MIN_LEVEL.

    Args:
        codes: uint64 (n,), strictly increasing.
        bits: bits an axis of the grid.
        most: voxels of a tile.
    """
    for level in range(bits, MIN_LEVEL, -1):
        if np.diff(_starts(codes, level), append=len(codes)).max() <= most:
            return level
    return MIN_LEVEL


def split(codes: np.ndarray, grid: Grid, level: int, folder: Path) -> TiledCloud:
    """Cut voxels in memory into tiles, one file each in ``folder``.

    Args:
        codes: uint64 (n,), strictly increasing, n ≥ 1.
        grid: their grid.
        level: T.
        folder: an empty directory.
    """
    starts = _starts(codes, level)
    tiles = []
    for index, part in enumerate(np.split(codes, starts[1:])):
        file = folder / f"{index}.npy"
        np.save(file, part)
        tiles.append(Tile(int(part[0]) >> 3 * level, len(part), file))
    return TiledCloud(grid, level, tuple(tiles))


def _starts(codes: np.ndarray, level: int) -> np.ndarray:
    """Index of the first voxel of each tile."""
    tile = codes >> np.uint64(3 * level)
    return np.flatnonzero(np.concatenate([[True], tile[1:] != tile[:-1]]))
