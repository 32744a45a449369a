"""Encoding of a cloud of any size, in memory or in tiles on disk."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import numpy as np

from pccodec.codec.effort import DEFAULT_EFFORT
from pccodec.codec.encoder import encode, refuse_ranks_in_tiles
from pccodec.codec.tile_encoder import TileConfig, encode_tiles
from pccodec.io.cloud import ChunkedCloud
from pccodec.voxels.partition import partition
from pccodec.work import Workers


def encode_chunks(
    cloud: ChunkedCloud,
    out: IO[bytes],
    folder: Path,
    workers: Workers,
    *,
    voxel_size: float | None = None,
    bits: int | None = None,
    model: str | None = None,
    ranks: tuple[int, int, int] | None = None,
    effort: int = DEFAULT_EFFORT,
    tile_points: int = TileConfig.tile_points,
) -> None:
    """Encode a cloud into one stream, as ``encode`` does, in memory that does not grow with it.

    Args:
        cloud: read several times if it has more than ``tile_points`` points.
        out: where the stream is written, from its current position on.
        folder: takes temporary files, 24 bytes a point.
        workers: who encodes the tiles; the stream is the same whoever does.
        voxel_size, bits, model, ranks, effort, tile_points: as of ``encode``.

    Raises:
        InputError: the points cannot be encoded.
        ModelError: the model is missing.
    """
    if cloud.survey.points > tile_points:
        tiles = folder / "tiles"
        tiles.mkdir()
        tiled = partition(cloud, voxel_size, bits, tile_points, tiles)
        if tiled.level < tiled.grid.bits:
            refuse_ranks_in_tiles(ranks, tile_points)
            config = TileConfig(tile_points=tile_points)
            encode_tiles(tiled, out, model=model, config=config, workers=workers, folder=folder)
            return
    points = np.concatenate(list(cloud))
    out.write(
        encode(
            points,
            voxel_size=voxel_size,
            bits=bits,
            model=model,
            ranks=ranks,
            effort=effort,
            tile_points=tile_points,
        )
    )
