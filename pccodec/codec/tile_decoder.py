"""What a worker does for a tile: decode its layers and reconstruct its voxels from what is known."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pccodec.codec.checks import geometry_check
from pccodec.codec.cut_layer import expected_beside, expected_of_layer, layer_decoder
from pccodec.codec.expected_points import expected_points, is_sparse
from pccodec.codec.reconstruction import reconstruct
from pccodec.codec.tile_nodes import TileNodes
from pccodec.entropy.geometry import LevelDecoder
from pccodec.errors import DamagedError
from pccodec.model import store
from pccodec.model.config import LATENT_LEVELS
from pccodec.model.occupancy import OccupancyNetwork
from pccodec.model.upsampling import UNLIMITED, Known, Partial
from pccodec.sparse.neighbors import map_below
from pccodec.voxels import octree
from pccodec.voxels.octree import Octree

_SYNTHESIS_START = LATENT_LEVELS[0]


@dataclass(frozen=True)
class Piece:
    """A layer of one tile as it arrived.

    Attributes:
        level: ``l`` of ``G_l``.
        data: the bytes that arrived.
        complete: whether they are all.
        check: check value that it must have.
        most: most nodes that it may give.
    """

    level: int
    data: bytes
    complete: bool
    check: int
    most: int


@dataclass(frozen=True)
class TileTask:
    """A tile to decode.

    Attributes:
        model_id: of the stream's model.
        depth: D.
        code: Morton code of the tile.
        level: T.
        shared: S, the level of ``nodes``.
        nodes: the tile's nodes of ``X_S``, uint64.
        around: those around it, uint64.
        counts: its expected counts of finer levels.
        pieces: its layers as they arrived, coarse to fine.
        surplus: of the header.
        exact: whether the nodes are the true ones.
        budget: most voxels to reconstruct while N_3 is not known.
    """

    model_id: bytes
    depth: int
    code: int
    level: int
    shared: int
    nodes: np.ndarray
    around: np.ndarray
    counts: dict[int, int]
    pieces: tuple[Piece, ...]
    surplus: int = 0
    exact: bool = True
    budget: int = UNLIMITED


@dataclass(frozen=True)
class TileState:
    """What is known of a tile once its layers are decoded.

    Attributes:
        task: the tile, without its layers.
        finest: the finest known level.
        codes: the tile's nodes of that level, uint64.
        counts: its nodes by level; expected ones below the finest known level.
        partial: what is known of the level below.
        damage: the layer in which damage showed, and how.
    """

    task: TileTask
    finest: int
    codes: np.ndarray
    counts: dict[int, int]
    partial: Partial | None = None
    damage: str | None = None

    @property
    def has_surface(self) -> bool:
        """Whether voxels are predicted that depend on what lies around the tile."""
        return self.finest > 0 and not is_sparse([self.counts[0], self.counts[1]])


def decode_tile(task: TileTask) -> TileState:
    """Decode a tile's layers as far as they arrived and are intact."""
    stripped = replace(task, pieces=(), around=np.zeros(0, dtype=np.uint64))
    counts = dict(task.counts)
    for above, codes in enumerate(Octree.build(task.nodes, task.level - task.shared).codes):
        counts[task.shared + above] = len(codes)
    state = TileState(stripped, task.shared, task.nodes, counts)
    if not task.pieces and state.has_surface:
        return state
    network = store.load_by_id(task.model_id).geometry
    height = task.level - task.shared
    nodes = TileNodes.begin(task.code, height, task.nodes, task.around, task.depth - task.shared)
    state, nodes = _decode_pieces(network, task.pieces, state, nodes)
    if state.finest > 0 and state.partial is None and not state.has_surface:
        expected = expected_of_layer(network, nodes.context(state.finest - 1, state.counts))
        state = replace(state, partial=_of_tile(expected, nodes.outside))
    return state


def _decode_pieces(
    network: OccupancyNetwork, pieces: tuple[Piece, ...], state: TileState, nodes: TileNodes
) -> tuple[TileState, TileNodes]:
    """State and nodes of a tile behind its layers."""
    for piece in pieces:
        if not (piece.complete or piece.data):
            break
        decoder = layer_decoder(network, nodes.context(piece.level, state.counts))
        try:
            occupancy, known = decoder.decode(piece.data, piece.complete)
            if not piece.complete:
                return replace(state, partial=_partial(decoder, occupancy, known, state.counts)), nodes
            _check(piece, occupancy[~nodes.outside])
        except DamagedError as error:
            return replace(state, damage=f"layer G{piece.level} ({error})"), nodes
        nodes = nodes.below(occupancy)
        own = nodes.own
        state = TileState(state.task, piece.level, own, {**state.counts, piece.level: len(own)})
    return state, nodes


def _partial(
    decoder: LevelDecoder, occupancy: np.ndarray, known: np.ndarray, counts: dict[int, int]
) -> Partial | None:
    """What the beginning of a layer tells of the tile's own nodes, None if nothing."""
    assert decoder.context.outside is not None
    if not known[~decoder.context.outside].any():
        return None
    partial = Partial(occupancy, known, expected_beside(decoder, counts), decoder.milestone.octants)
    return _of_tile(partial, decoder.context.outside)


def _of_tile(partial: Partial, outside: np.ndarray) -> Partial:
    """What concerns the nodes that are not outside."""
    own = ~outside
    expected = None if partial.expected is None else partial.expected[own]
    return Partial(partial.occupancy[own], partial.known[own], expected, partial.octants)


def _check(piece: Piece, occupancy: np.ndarray) -> None:
    if int(octree.POPCOUNT[occupancy].sum(dtype=np.int64)) > piece.most:
        raise DamagedError("it gives more nodes than the header states")
    if geometry_check(None, occupancy) != piece.check:
        raise DamagedError("its check value does not match")


@dataclass(frozen=True)
class TileJob:
    """A tile to reconstruct: what is known of it, and nodes of its finest level around it, uint64."""

    state: TileState
    around: np.ndarray


def reconstruct_tile(job: TileJob) -> np.ndarray:
    """Voxels of a tile, sorted Morton codes uint64: the known, most probable or central ones."""
    state, task = job.state, job.state.task
    finest = state.finest
    if not state.has_surface:
        if finest == 0:
            return state.codes
        assert state.partial is not None
        return expected_points(state.codes, finest, state.partial, state.counts[0])
    codes = np.sort(np.concatenate([state.codes, job.around]))
    start = max(finest, _SYNTHESIS_START)
    tree = Octree.build(codes, task.depth - finest)
    whole, own = len(codes), len(state.codes)
    # The counts are the tile's; what lies around it is reconstructed along.
    counts = {level: count * whole // own for level, count in state.counts.items() if level < finest}
    counts |= {finest + above: len(nodes) for above, nodes in enumerate(tree.codes)}
    known = Known(
        {level: tree.codes[level - finest] for level in range(finest, start + 1)},
        {start: map_below(Octree(tree.codes[start - finest :], tree.occupancy[start - finest :]))},
        counts,
        partial=state.partial,
        exact=task.exact,
        surplus=task.surplus,
    )
    if finest > _SYNTHESIS_START or not task.exact:
        known.budget = task.budget * whole // own
    voxels = reconstruct(known, store.load_by_id(task.model_id))
    return voxels[voxels >> np.uint64(3 * task.level) == task.code]
