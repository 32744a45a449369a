"""Decoding of streams of tiles, tile by tile."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import IO

import numpy as np

from pccodec.codec.reconstruction import reconstruct
from pccodec.codec.tile_decoder import TileJob, TileState, decode_tile, reconstruct_tile
from pccodec.codec.tile_nodes import Neighbourhood
from pccodec.codec.tile_stream import TileStream
from pccodec.errors import DamagedError
from pccodec.model import store
from pccodec.voxels.octree import ancestors
from pccodec.work import Serial, Workers

_HALO = 32
"""Voxels around a tile that are reconstructed along with it, so that its faces are no edges of the cloud."""

_IN_MEMORY = 1 << 26
"""Bytes of decoded tiles that are held in memory; more go to a temporary file."""

_CACHED = 32
"""Tiles whose nodes are held for those beside them."""

_NOTHING = np.zeros(0, dtype=np.uint64)


def tile_voxels(
    stream: TileStream, selected: Sequence[int] | None = None, workers: Workers | None = None
) -> Iterator[np.ndarray]:
    """Voxels of a stream, sorted Morton codes uint64, one array a tile, in the order of the tiles.

    A prefix that ends within the shared layers of a sparse cloud gives one array, of the whole cloud.

    Args:
        stream: the stream.
        selected: indices of the tiles to decode, increasing; None for all.
        workers: who decodes the tiles; the voxels are the same whoever does.

    Raises:
        DamagedError: the stream is damaged and strict decoding was asked for, or it holds far
            more points than its header says.
    """
    if stream.tiles is None:
        yield reconstruct(stream.known, store.load_by_id(stream.header.model_id))
        return
    workers = workers or Serial()
    states = _intact(stream, workers.run(decode_tile, stream.tasks(_all(stream, selected))))
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as file:
        jobs: Iterable[TileJob] = (TileJob(state, _NOTHING) for state in states)
        if not stream.complete:
            # What lies beside a tile may come long after it: all are decoded before any is reconstructed.
            jobs = _Spool(file, states).jobs()
        # What is predicted may go beyond the number of points, and each known node keeps one.
        left = 3 * stream.header.counts[0] + len(stream.known.codes[stream.known.finest])
        for voxels in workers.run(reconstruct_tile, jobs):
            left -= len(voxels)
            if left < 0:
                raise DamagedError("the tiles hold far more points than the header states")
            yield voxels


def _all(stream: TileStream, selected: Sequence[int] | None) -> Sequence[int]:
    assert stream.tiles is not None
    return range(len(stream.tiles)) if selected is None else selected


def _intact(stream: TileStream, states: Iterable[TileState]) -> Iterator[TileState]:
    """The tiles, with a report of those that are damaged."""
    for state in states:
        if state.damage:
            stream.report(state.damage, state.finest, in_tile=True)
        yield state


class _Spool:
    """Decoded tiles in a temporary file.

    Args:
        file: an empty file.
        states: the tiles.
    """

    def __init__(self, file: IO[bytes], states: Iterable[TileState]) -> None:
        self._file = file
        self._starts, codes = [], []
        for state in states:
            self._starts.append(file.tell())
            codes.append(state.task.code)
            pickle.dump(state, file, pickle.HIGHEST_PROTOCOL)
        self._places = Neighbourhood(codes)
        self._nodes = lru_cache(_CACHED)(self._load_nodes)

    def jobs(self) -> Iterator[TileJob]:
        """Each tile with what lies around it."""
        for place in range(len(self._starts)):
            state = self._load(place)
            yield TileJob(state, self._around(place, state))

    def _around(self, place: int, state: TileState) -> np.ndarray:
        # A cut layer is known of one tile only, so nothing around it is known likewise.
        if not state.has_surface or state.partial is not None:
            return _NOTHING
        finest = state.finest

        def nodes(other: int) -> np.ndarray | None:
            level, codes = self._nodes(other)
            return ancestors(codes, finest - level) if level <= finest else None

        return self._places.around(place, state.task.level - finest, max(1, _HALO >> finest), nodes)

    def _load(self, place: int) -> TileState:
        self._file.seek(self._starts[place])
        state: TileState = pickle.load(self._file)
        return state

    def _load_nodes(self, place: int) -> tuple[int, np.ndarray]:
        """Finest known level of a tile, but at least 1, and its nodes."""
        state = self._load(place)
        level = max(state.finest, 1)
        return level, ancestors(state.codes, level - state.finest)
