"""What a worker does for one tile: decode its layers, and reconstruct its voxels from what is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pccodec.codec.centers import is_sparse, node_centers
from pccodec.codec.layers import decode_geometry
from pccodec.codec.reconstruction import reconstruct
from pccodec.errors import DamagedError
from pccodec.model import store
from pccodec.model.config import LATENT_LEVELS
from pccodec.model.store import Model
from pccodec.model.upsampling import UNLIMITED, Known, Partial
from pccodec.sparse.neighbors import map_below
from pccodec.voxels.octree import Octree

SYNTHESIS_START = LATENT_LEVELS[0]
"""Level whose nodes are upsampled; coarser ones are continued to it by the geometry network."""


@dataclass(frozen=True)
class Piece:
    """A geometry layer, of the whole cloud or of a tile, as it arrived.

    Attributes:
        level: ``l`` of ``G_l``.
        data: the bytes that arrived.
        complete: whether they are all.
        check: check value that it must have.
        count: nodes that it must give, if known.
        most: most nodes that it may give.
    """

    level: int
    data: bytes
    complete: bool
    check: int
    count: int | None
    most: int


def decode_pieces(known: Known, pieces: Sequence[Piece], model: Model) -> str | None:
    """Decode layer after layer until the bytes end or damage shows; what is wrong then.

    Args:
        known: what is known; changed in place.
        pieces: the layers that follow, coarse to fine.
        model: the stream's model.
    """
    for piece in pieces:
        if not (piece.complete or piece.data):
            break
        try:
            decode_geometry(
                known,
                piece.data,
                piece.complete,
                model,
                check=piece.check,
                count=piece.count,
                most=piece.most,
            )
        except DamagedError as error:
            return f"layer G{piece.level} ({error})"
        if not piece.complete:
            break
    return None


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
        counts: its expected counts of finer levels.
        pieces: its layers as they arrived.
        exact: whether the nodes are the true ones.
        budget: most voxels to reconstruct while N_3 is not known.
    """

    model_id: bytes
    depth: int
    code: int
    level: int
    shared: int
    nodes: np.ndarray
    counts: dict[int, int]
    pieces: tuple[Piece, ...]
    exact: bool = True
    budget: int = UNLIMITED


@dataclass(frozen=True)
class TileState:
    """What is known of a tile.

    Attributes:
        task: the tile without its layers.
        finest: the finest known level.
        codes: its nodes, uint64.
        counts: nodes by level, expected ones below the finest known level.
        partial: what is known of the level below.
        damage: the layer in which damage showed, and how.
    """

    task: TileTask
    finest: int
    codes: np.ndarray
    counts: dict[int, int]
    partial: Partial | None
    damage: str | None


def decode_tile(task: TileTask) -> TileState:
    """Decode the layers of a tile."""
    if not task.pieces:
        return TileState(task, task.shared, task.nodes, task.counts, None, None)
    tree = Octree.build(task.nodes, task.level - task.shared)
    counts = {task.shared + above: len(codes) for above, codes in enumerate(tree.codes)} | task.counts
    known = Known({task.shared: task.nodes}, {task.shared: map_below(tree)}, counts)
    damage = decode_pieces(known, task.pieces, store.load_by_id(task.model_id))
    finest = known.finest
    stripped = replace(task, pieces=())
    return TileState(stripped, finest, known.codes[finest], known.counts, known.partial, damage)


@dataclass(frozen=True)
class TileJob:
    """A tile to reconstruct: its state, and the nodes of its finest level next to it, uint64."""

    state: TileState
    around: np.ndarray


def reconstruct_tile(job: TileJob) -> np.ndarray:
    """Voxels of a tile, sorted Morton codes uint64: the known, most probable or central ones."""
    state, task = job.state, job.state.task
    finest = state.finest
    if finest == 0:
        return state.codes
    if is_sparse([state.counts[0], state.counts[1]]):
        return node_centers(state.codes, finest, state.partial)
    codes = np.union1d(state.codes, job.around)
    start = max(finest, SYNTHESIS_START)
    tree = Octree.build(codes, task.depth - finest)
    whole, own = len(codes), len(state.codes)
    counts = {level: count * whole // own for level, count in state.counts.items() if level < finest}
    counts |= {finest + above: len(nodes) for above, nodes in enumerate(tree.codes)}
    known = Known(
        {level: tree.codes[level - finest] for level in range(finest, start + 1)},
        {start: map_below(Octree(tree.codes[start - finest :], tree.occupancy[start - finest :]))},
        counts,
        partial=state.partial,
        exact=task.exact,
    )
    if not task.exact or finest > SYNTHESIS_START:
        known.budget = task.budget * whole // own
    voxels = reconstruct(known, store.load_by_id(task.model_id))
    return voxels[voxels >> np.uint64(3 * task.level) == task.code] if whole > own else voxels
