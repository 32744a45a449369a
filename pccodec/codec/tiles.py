"""Decoding of streams of tiles, tile by tile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from pccodec.codec.centers import node_centers
from pccodec.codec.tile_decoder import decode_tile
from pccodec.codec.tile_stream import TileStream
from pccodec.errors import DamagedError
from pccodec.work import Serial, Workers


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
        known = stream.known
        yield node_centers(known.codes[known.finest], known.finest, known.partial)
        return
    tasks = stream.tasks(range(len(stream.tiles)) if selected is None else selected)
    # What is predicted may go beyond the number of points, and each known node keeps one.
    left = 2 * stream.header.counts[0] + len(stream.known.codes[stream.known.finest])
    for tile in (workers or Serial()).run(decode_tile, tasks):
        if tile.damage:
            stream.report(tile.damage, tile.finest, in_tile=True)
        left -= len(tile.voxels)
        if left < 0:
            raise DamagedError("the tiles hold far more points than the header states")
        yield tile.voxels
