"""Decoder: a stream, whole or cut anywhere behind its header, to points."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

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
from pccodec.model.upsampling import UNLIMITED, Known, Latent, Partial, Upsampler
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
    state = _decode_layers(stream, model, strict)
    if 0 in state.codes:
        codes = state.codes[0]
    elif is_sparse(header.counts):
        codes = node_centers(state.codes[state.finest], state.finest, state.partial)
    else:
        # Until G_3 is decoded nothing but the header vouches for the counts.
        budget = stream.node_budget(state.finest) if state.finest >= len(header.counts) else UNLIMITED
        codes = Upsampler(model.synthesis).voxels(down_to_synthesis(_known(state, budget), model.geometry))
    grid = Grid(header.origin, header.scale, header.depth, header.is_integer)
    return grid.points(codes)


@dataclass
class _State:
    """What is decoded so far; see :class:`pccodec.model.upsampling.Known` for the fields."""

    codes: dict[int, np.ndarray]
    maps: dict[int, np.ndarray]
    counts: dict[int, int]
    symbols: np.ndarray
    active: np.ndarray
    latents: dict[int, Latent] = field(default_factory=dict)
    partial: Partial | None = None

    @classmethod
    def begin(cls, header: Header) -> _State:
        counts = dict(enumerate(header.counts))
        counts[header.depth] = 1
        root = np.zeros(1, dtype=np.uint64)
        state = cls({header.depth: root}, {header.depth: root_map()}, counts, *_no_ranks(1))
        return state

    @property
    def finest(self) -> int:
        return min(self.codes)


def _no_ranks(nodes: int) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((nodes, 0), dtype=np.int8), np.zeros(nodes, dtype=np.int64)


def _decode_layers(stream: Stream, model: Model, strict: bool) -> _State:
    """Decode layer after layer until the bytes end or damage shows."""
    state = _State.begin(stream.header)
    for layer in stream.layers:
        if not (layer.complete or layer.data):
            break
        try:
            if layer.spec.kind == "G":
                _geometry_layer(state, layer, stream.header, model)
            else:
                _rank_layer(state, layer, model)
        except DamagedError as error:
            # Whether a rank or the geometry is wrong cannot be told: the check covers both.
            state.latents.pop(state.finest, None)
            message = f"the stream is damaged in layer {layer.spec.name} ({error})"
            if strict:
                raise DamagedError(message) from error
            logger.warning("%s; decoded up to stride %d", message, 1 << state.finest)
            break
        if not layer.complete:
            break
    return state


def _rank_layer(state: _State, layer: Layer, model: Model) -> None:
    tables = model.rank_tables.get(layer.spec.level)
    if tables is None or layer.spec.rank > len(tables):
        raise DamagedError("the model has no such rank")
    count = len(state.codes[state.finest])
    decoded = RankCoder(tables).decode(state.maps[state.finest], state.symbols, layer.data, layer.complete)
    column = np.zeros((count, 1), dtype=np.int8)
    column[: len(decoded), 0] = decoded
    state.active[: len(decoded)] += 1
    state.symbols = np.hstack([state.symbols, column])
    state.latents[state.finest] = Latent(state.symbols, state.active)


def _geometry_layer(state: _State, layer: Layer, header: Header, model: Model) -> None:
    level = layer.spec.level
    neighbors = state.maps[level + 1]
    context = LevelContext(neighbors, level, state.counts, state.codes[level + 1], state.symbols)
    occupancy, known = decode_level(model.geometry, context, layer.data, layer.complete)
    if not layer.complete:
        if known.any():
            expected = expected_children(model.geometry, context, occupancy, known)
            state.partial = Partial(occupancy, known, expected)
        return
    count = int(octree.POPCOUNT[occupancy].sum())
    if (occupancy == 0).any() or count > header.max_nodes(level) or count != state.counts.get(level, count):
        raise DamagedError("it does not give the number of nodes that the header states")
    if geometry_check(state.symbols, occupancy) != header.checks[level]:
        raise DamagedError("its check value does not match")
    state.codes[level] = octree.expand(state.codes[level + 1], occupancy)
    state.counts[level] = count
    if level:
        state.maps[level] = child_map(neighbors, occupancy)
    state.symbols, state.active = _no_ranks(count)


def _known(state: _State, budget: int) -> Known:
    return Known(
        codes=state.codes,
        maps=state.maps,
        counts=state.counts,
        latents=state.latents,
        partial=state.partial,
        budget=budget,
    )
