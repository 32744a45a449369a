"""Decoder: a stream, whole or cut anywhere behind its header, to points."""

from __future__ import annotations

import logging

import numpy as np

from pccodec import container
from pccodec.codec.centers import is_sparse, node_centers
from pccodec.codec.checks import geometry_check
from pccodec.codec.coarse import down_to_synthesis
from pccodec.container import Header, Layer, Stream
from pccodec.entropy.completion import expected_children
from pccodec.entropy.geometry import LevelContext, decode_level
from pccodec.entropy.ranks import RankCoder
from pccodec.errors import DamagedError
from pccodec.model import store
from pccodec.model.store import Model
from pccodec.model.upsampling import Known, Latent, Partial, Upsampler
from pccodec.sparse.neighbors import child_map, root_map
from pccodec.voxels import octree
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
    model = store.load_by_id(header.model_id)
    known = _decode_layers(stream, model, strict)
    if 0 in known.codes:
        codes = known.codes[0]
    elif is_sparse(header.counts):
        codes = node_centers(known.codes[known.finest], known.finest, known.partial)
    else:
        # Until G_3 is decoded nothing but the header vouches for the counts.
        if known.finest >= len(header.counts):
            known.budget = stream.node_budget(known.finest)
        codes = Upsampler(model.synthesis).voxels(down_to_synthesis(known, model.geometry))
    grid = Grid(header.origin, header.scale, header.depth, header.is_integer)
    return grid.points(codes)


def _decode_layers(stream: Stream, model: Model, strict: bool) -> Known:
    """Decode layer after layer until the bytes end or damage shows."""
    depth = stream.header.depth
    counts = {**dict(enumerate(stream.header.counts)), depth: 1}
    known = Known({depth: np.zeros(1, dtype=np.uint64)}, {depth: root_map()}, counts)
    for layer in stream.layers:
        if not (layer.complete or layer.data):
            break
        try:
            if layer.spec.kind == "G":
                _geometry_layer(known, layer, stream.header, model)
            else:
                _rank_layer(known, layer, model)
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


def _rank_layer(known: Known, layer: Layer, model: Model) -> None:
    tables = model.rank_tables.get(layer.spec.level)
    if tables is None or layer.spec.rank > len(tables):
        raise DamagedError("the model has no such rank")
    level = known.finest
    before = known.latent(level)
    decoded = RankCoder(tables).decode(known.maps[level], before.symbols, layer.data, layer.complete)
    column = np.zeros((len(before.active), 1), dtype=np.int8)
    column[: len(decoded), 0] = decoded
    arrived = np.arange(len(before.active)) < len(decoded)
    known.latents[level] = Latent(np.hstack([before.symbols, column]), before.active + arrived)


def _geometry_layer(known: Known, layer: Layer, header: Header, model: Model) -> None:
    level = layer.spec.level
    neighbors, symbols = known.maps[level + 1], known.latent(level + 1).symbols
    context = LevelContext(neighbors, level, known.counts, known.codes[level + 1], symbols)
    occupancy, determined = decode_level(model.geometry, context, layer.data, layer.complete)
    if not layer.complete:
        if determined.any():
            expected = expected_children(model.geometry, context, occupancy, determined)
            known.partial = Partial(occupancy, determined, expected)
        return
    count = int(octree.POPCOUNT[occupancy].sum(dtype=np.int64))
    if (occupancy == 0).any() or count > header.max_nodes(level) or count != known.counts.get(level, count):
        raise DamagedError("it does not give the number of nodes that the header states")
    if geometry_check(symbols, occupancy) != header.checks[level]:
        raise DamagedError("its check value does not match")
    known.codes[level] = octree.expand(known.codes[level + 1], occupancy)
    known.counts[level] = count
    if level:
        known.maps[level] = child_map(neighbors, occupancy)
