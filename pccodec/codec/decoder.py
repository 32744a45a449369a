"""Decoder: a stream, whole or cut anywhere behind its header, to points."""

from __future__ import annotations

import logging

import numpy as np

from pccodec import container
from pccodec.codec.layers import decode_geometry, decode_ranks
from pccodec.codec.reconstruction import reconstruct
from pccodec.codec.tile_stream import TileStream
from pccodec.codec.tiles import tile_voxels
from pccodec.container import Stream
from pccodec.errors import DamagedError
from pccodec.model import store
from pccodec.model.store import Model
from pccodec.model.upsampling import Known
from pccodec.source import BytesSource
from pccodec.sparse.neighbors import root_map
from pccodec.voxels.grid import Grid

logger = logging.getLogger(__name__)


def decode(
    data: bytes, *, layers: int | None = None, max_bytes: int | None = None, strict: bool = False
) -> np.ndarray:
    """Decode what a stream, or any prefix of it that holds its header, determines.

    Args:
        data: the stream.
        layers: use only the first so many layers.
        max_bytes: use only the first so many bytes.
        strict: raise on damage instead of decoding up to the last intact level.

    Returns:
        Points (m, 3): int64 for clouds of integer coordinates, else float64.

    Raises:
        StreamError: not a stream, or its header is damaged or missing.
        ModelError: the model that the stream needs is missing.
        DamagedError: the payload is damaged and ``strict`` is set.
    """
    if layers is not None:
        data = container.truncate(data, layers=layers)
    if max_bytes is not None:
        data = container.truncate(data, max_bytes=max_bytes)
    stream = container.parse(data)
    header = stream.header
    if header.tiles:
        tiles = TileStream(BytesSource(data), strict=strict)
        return tiles.grid.points(np.concatenate(list(tile_voxels(tiles))))
    model = store.load_by_id(header.model_id)
    known = _decode_layers(stream, model, strict)
    # Until G_3 is decoded nothing but the header vouches for the counts.
    if known.finest >= len(header.counts):
        known.budget = stream.node_budget(known.finest)
    grid = Grid(header.origin, header.scale, header.depth, header.is_integer)
    return grid.points(reconstruct(known, model))


def _decode_layers(stream: Stream, model: Model, strict: bool) -> Known:
    """Decode layer after layer until the bytes end or damage shows."""
    header = stream.header
    depth = header.depth
    counts = {**dict(enumerate(header.counts)), depth: 1}
    root = np.zeros(1, dtype=np.uint64)
    known = Known({depth: root}, {depth: root_map()}, counts, surplus=header.surplus)
    for layer in stream.layers:
        if not (layer.complete or layer.data):
            break
        try:
            if layer.spec.kind == "G":
                level = layer.spec.level
                decode_geometry(
                    known,
                    layer.data,
                    layer.complete,
                    model,
                    check=header.checks[level],
                    count=known.counts.get(level),
                    most=header.max_nodes(level),
                    milestones=header.milestones_at(level),
                )
            else:
                decode_ranks(known, layer.spec.rank, layer.data, layer.complete, model)
        except DamagedError as error:
            # Whether a rank or the geometry is wrong cannot be told: the check covers both.
            known.latents.pop(known.finest, None)
            message = f"the stream is damaged in layer {layer.spec.name} ({error})"
            if strict:
                raise DamagedError(message) from error
            logger.warning("%s; decoded up to stride %d", message, 1 << known.finest)
            break
        if not layer.complete:
            break
    return known
