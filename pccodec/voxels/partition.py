"""From a cloud of any size to sorted tiles on disk, in bounded memory.

The voxels are sorted by an external merge sort: sorted runs first, then one sorted
sequence, merged range by range. Only then is it known how many voxels a cube holds, and so how
large the tiles may be, and the sequence is cut. Memory holds a run or a range, whichever way
the cloud is ordered or crowded; disk needs 24 bytes a point for a while, and 8 bytes a voxel at
the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from pccodec.errors import InputError
from pccodec.io.cloud import ChunkedCloud
from pccodec.voxels.grid import choose_grid, sort_distinct
from pccodec.voxels.tiles import MIN_LEVEL, Tile, TiledCloud

_RUN = 1 << 22
"""Codes that are sorted at a time."""

_STEP = 1 << 12
"""A run's index holds one of so many codes: 20 MB for 10^10 points."""

_BLOCK = 1 << 20
"""Codes that are read or written at a time."""


def partition(
    cloud: ChunkedCloud, voxel_size: float | None, bits: int | None, tile_points: int, folder: Path
) -> TiledCloud:
    """Voxelize a cloud and cut it into tiles, all of them cubes of one size.

    The grid and the voxels are those of ``voxelize``. Tiles are the largest cubes of which none holds
    more than ``tile_points`` voxels, but they have an edge of at least ``2**MIN_LEVEL`` voxels.

    Args:
        cloud: gone over two to four times.
        voxel_size: as of ``voxelize``.
        bits: as of ``voxelize``.
        tile_points: most voxels of a tile, at least 1.
        folder: an empty directory, which takes the tiles and, for a while, temporary files.

    Raises:
        InputError: as of ``voxelize``, or the folder cannot be written.
    """
    grid = choose_grid(cloud, voxel_size, bits)
    try:
        level, tiles = _sort_and_cut((grid.codes(chunk) for chunk in cloud), grid.bits, tile_points, folder)
    except OSError as error:
        raise InputError(
            f"cannot write to {folder}: {error.strerror or error} (is the disk full?)"
        ) from error
    return TiledCloud(grid, level, tiles, cloud.survey.points - sum(tile.points for tile in tiles))


def _sort_and_cut(
    codes: Iterable[np.ndarray], bits: int, tile_points: int, folder: Path
) -> tuple[int, tuple[Tile, ...]]:
    """Level and tiles of the voxels of codes in any order."""
    runs = [
        _Run.write(folder / f"run{number}", sort_distinct(piece))
        for number, piece in enumerate(_collect(codes, _RUN))
    ]
    whole = folder / "sorted"
    crowd = _Crowd(bits)
    with whole.open("wb") as file:
        for piece in _merge(runs):
            crowd.add(piece)
            piece.tofile(file)
    for run in runs:
        run.file.unlink()
    level = crowd.level(tile_points)
    tiles = tuple(_cut(whole, level, folder))
    whole.unlink()
    return level, tiles


class _Run:
    """Sorted distinct codes in a file, and every ``_STEP``-th of them in memory."""

    def __init__(self, file: Path, index: np.ndarray) -> None:
        self.file = file
        self.index = index
        self._done = 0
        self._rest = np.empty(0, np.uint64)

    @classmethod
    def write(cls, file: Path, codes: np.ndarray) -> _Run:
        """Write codes uint64 (n,), strictly increasing."""
        codes.tofile(file)
        return cls(file, codes[::_STEP].copy())

    def take_below(self, limit: np.uint64 | None) -> np.ndarray:
        """The codes below ``limit`` that were not yet taken; None: all that are left."""
        steps = len(self.index) if limit is None else int(np.searchsorted(self.index, limit))
        # The last step may hold larger codes too.
        count = max(0, steps * _STEP - self._done)
        read = np.fromfile(self.file, np.uint64, count, offset=8 * self._done)
        self._done += len(read)
        codes = np.concatenate([self._rest, read])
        end = len(codes) if limit is None else int(np.searchsorted(codes, limit))
        self._rest = codes[end:].copy()
        return codes[:end]


def _collect(parts: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Codes of all parts, in pieces of ``size``; a piece may be changed, and is gone when the next comes."""
    piece = np.empty(size, np.uint64)
    filled = 0
    for part in parts:
        while len(part):
            fits = min(len(part), size - filled)
            piece[filled : filled + fits] = part[:fits]
            filled += fits
            part = part[fits:]
            if filled == size:
                yield piece
                filled = 0
    if filled:
        yield piece[:filled]


def _merge(runs: list[_Run]) -> Iterator[np.ndarray]:
    """All codes of the runs, sorted and distinct, range after range."""
    # Between two limits lie about _RUN codes, and one step more a run.
    limits = np.sort(np.concatenate([run.index for run in runs]))[:: _RUN // _STEP][1:]
    for limit in [*limits, None]:
        codes = sort_distinct(np.concatenate([run.take_below(limit) for run in runs]))
        if len(codes):
            yield codes


class _Crowd:
    """The most voxels in any one cube, for cubes of all sizes, of codes that come in order."""

    def __init__(self, bits: int) -> None:
        self._most = [0] * (bits + 1)
        # The cube at the end of what came, and how many voxels it has so far; a cube a level.
        self._last = [(-1, 0)] * (bits + 1)

    def add(self, codes: np.ndarray) -> None:
        """Count codes uint64 (n,), n ≥ 1, strictly increasing and above those before."""
        cubes, counts = codes, np.ones(len(codes), np.int64)
        for level in range(1, len(self._most)):
            cubes = cubes >> np.uint64(3)
            first = np.flatnonzero(np.concatenate([[True], cubes[1:] != cubes[:-1]]))
            cubes, counts = cubes[first], np.add.reduceat(counts, first)
            before, points = self._last[level]
            held = counts.copy()
            if before == int(cubes[0]):
                held[0] += points
            self._most[level] = max(self._most[level], int(held.max()))
            self._last[level] = int(cubes[-1]), int(held[-1])

    def level(self, most: int) -> int:
        """The coarsest level whose cubes hold at most ``most`` voxels each, at least MIN_LEVEL."""
        levels = range(len(self._most) - 1, MIN_LEVEL, -1)
        return next((level for level in levels if self._most[level] <= most), MIN_LEVEL)


def _cut(file: Path, level: int, folder: Path) -> Iterator[Tile]:
    """Cut sorted codes in a file into the tiles of a level."""
    shift = np.uint64(3 * level)
    parts: list[np.ndarray] = []
    number = 0

    def finish() -> Tile:
        codes = np.concatenate(parts)
        target = folder / f"{number}.npy"
        np.save(target, codes)
        return Tile(int(codes[0] >> shift), len(codes), target)

    with file.open("rb") as stream:
        while len(codes := np.fromfile(stream, np.uint64, _BLOCK)):
            cubes = codes >> shift
            starts = np.flatnonzero(cubes[1:] != cubes[:-1]) + 1
            for piece in np.split(codes, starts):
                if parts and parts[-1][-1] >> shift != piece[0] >> shift:
                    yield finish()
                    number += 1
                    parts = []
                parts.append(piece)
    yield finish()
