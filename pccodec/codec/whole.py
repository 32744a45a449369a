"""Encoding of a cloud of any size, in memory or in tiles on disk."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import numpy as np

from pccodec.codec.config import EncodeConfig
from pccodec.codec.encoder import encode_points
from pccodec.codec.tile_encoder import encode_tiles
from pccodec.io.cloud import ChunkedCloud
from pccodec.voxels.partition import partition
from pccodec.work import Workers


def encode_chunks(
    cloud: ChunkedCloud, out: IO[bytes], folder: Path, workers: Workers, config: EncodeConfig
) -> None:
    """Encode a cloud into one stream, as ``encode`` does, in memory that does not grow with it.

    Args:
        cloud: read several times if it has more points than take no tiles.
        out: where the stream is written, from its current position on.
        folder: takes temporary files, 24 bytes a point.
        workers: who encodes the tiles; the stream is the same whoever does.
        config: as of ``encode``. Without tiles the whole cloud is in memory.

    Raises:
        InputError: the points cannot be encoded.
        ModelError: the model is missing.
    """
    if config.makes_tiles(cloud.survey.points):
        tiles = folder / "tiles"
        tiles.mkdir()
        tiled = partition(cloud, config.voxel_size, config.bits, config.most_in_tile, tiles)
        # Points that share a voxel may leave too few for tiles.
        if config.makes_tiles(tiled.points) and tiled.level < tiled.grid.bits:
            config.refuse_ranks_in_tiles()
            encode_tiles(tiled, out, model=config.model, workers=workers, folder=folder)
            return
    out.write(encode_points(np.concatenate(list(cloud)), config))
