"""Decoding of streams of tiles, tile by tile."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import IO

import numpy as np

from pccodec.codec.centers import node_centers
from pccodec.codec.halo import Halo
from pccodec.codec.tile_decoder import TileJob, TileState, decode_tile, reconstruct_tile
from pccodec.codec.tile_stream import TileStream
from pccodec.errors import DamagedError
from pccodec.work import Serial, Workers

_IN_MEMORY = 1 << 26
"""Bytes of decoded tiles that are held in memory; more go to a temporary file."""

_CACHED = 8
"""Tiles that are held for their neighbours."""


def tile_voxels(
    stream: TileStream, selected: Sequence[int] | None = None, workers: Workers | None = None
) -> Iterator[np.ndarray]:
    """Voxels of a stream, sorted Morton codes uint64, one array a tile, in the order of the tiles.

    A prefix within the shared layers of a sparse cloud gives one array, of the whole cloud.

    Args:
        stream: the stream.
        selected: indices of the tiles to decode, increasing; None for all.
        workers: who decodes the tiles; the voxels are the same whoever does.

    Raises:
        DamagedError: the stream is damaged and strict decoding was asked for, or it holds far
            more points than its header says.
    """
    workers = workers or Serial()
    if stream.tiles is None:
        known = stream.known
        yield node_centers(known.codes[known.finest], known.finest, known.partial)
        return
    indices = range(len(stream.tiles)) if selected is None else selected
    states = _reported(stream, workers.run(decode_tile, stream.tasks(indices)))
    if stream.complete:
        jobs: Iterable[TileJob] = (TileJob(state, np.zeros(0, np.uint64)) for state in states)
        yield from _counted(stream, workers.run(reconstruct_tile, jobs))
        return
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as file:
        # What lies beside a tile may come long after it: all are decoded before the first is reconstructed.
        spool = _Spool(file, states)
        yield from _counted(stream, workers.run(reconstruct_tile, _jobs(spool)))


def _reported(stream: TileStream, states: Iterable[TileState]) -> Iterator[TileState]:
    for state in states:
        if state.damage:
            stream.report(state.damage, state.finest, state.task.code)
        yield state


def _counted(stream: TileStream, tiles: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The tiles, as long as they hold about as many voxels as the header says."""
    # Each node that is known keeps a voxel, and what is predicted may go beyond its number a little.
    left = 2 * stream.header.counts[0] + len(stream.known.codes[stream.known.finest])
    for voxels in tiles:
        left -= len(voxels)
        if left < 0:
            raise DamagedError("the tiles hold far more points than the header states")
        yield voxels


class _Spool:
    """Tiles in a temporary file, by their place among those that are decoded."""

    def __init__(self, file: IO[bytes], states: Iterable[TileState]) -> None:
        self._file = file
        self._starts: list[int] = []
        self.codes: list[int] = []
        for state in states:
            self._starts.append(file.tell())
            self.codes.append(state.task.code)
            pickle.dump(state, file, pickle.HIGHEST_PROTOCOL)

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, place: int) -> TileState:
        self._file.seek(self._starts[place])
        state: TileState = pickle.load(self._file)
        return state


def _jobs(spool: _Spool) -> Iterator[TileJob]:
    halo = Halo(spool.codes, lru_cache(_CACHED)(spool.__getitem__))
    for place in range(len(spool)):
        state = spool[place]
        yield TileJob(state, halo.around(state))
