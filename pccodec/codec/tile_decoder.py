"""What a worker does for a tile: decode its layers and reconstruct its voxels from what is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pccodec.codec.centers import is_sparse, node_centers
from pccodec.codec.checks import geometry_check
from pccodec.codec.reconstruction import reconstruct
from pccodec.codec.tile_nodes import TileNodes
from pccodec.entropy.completion import expected_children
from pccodec.entropy.geometry import decode_level
from pccodec.errors import DamagedError
from pccodec.model import store
from pccodec.model.config import LATENT_LEVELS
from pccodec.model.store import Model
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
    exact: bool = True
    budget: int = UNLIMITED


@dataclass(frozen=True)
class DecodedTile:
    """Voxels of a tile.

    Attributes:
        voxels: sorted Morton codes uint64: the known, most probable or central ones.
        damage: the layer in which damage showed, and how.
        finest: the finest known level.
    """

    voxels: np.ndarray
    damage: str | None
    finest: int


def decode_tile(task: TileTask) -> DecodedTile:
    """Decode a tile, as far as its layers arrived and are intact."""
    model = store.load_by_id(task.model_id)
    tile = _Tile(task, model)
    damage = None
    for piece in task.pieces:
        if not (piece.complete or piece.data):
            break
        try:
            tile.decode(piece)
        except DamagedError as error:
            damage = f"layer G{piece.level} ({error})"
            break
        if not piece.complete:
            break
    return DecodedTile(tile.voxels(), damage, tile.finest)


class _Tile:
    """What is known of a tile."""

    def __init__(self, task: TileTask, model: Model) -> None:
        self._task, self._model = task, model
        height = task.level - task.shared
        self.finest = task.shared
        self._nodes = TileNodes.begin(task.code, height, task.nodes, task.around, task.depth - task.shared)
        self._counts = dict(task.counts)
        for above, codes in enumerate(Octree.build(task.nodes, height).codes):
            self._counts[task.shared + above] = len(codes)
        self._partial: Partial | None = None

    def decode(self, piece: Piece) -> None:
        """Add the next level, or what the beginning of its layer tells of it.

        Raises:
            DamagedError: a complete layer fails its checks; what is known stays as it was.
        """
        network, nodes = self._model.geometry, self._nodes
        context = nodes.context(piece.level, self._counts)
        occupancy, known = decode_level(network, context, piece.data, piece.complete)
        if not piece.complete:
            if known.any():
                expected = expected_children(network, context, occupancy, known)
                self._partial = Partial(occupancy, known, expected)
            return
        own = occupancy[~nodes.outside]
        found = int(octree.POPCOUNT[own].sum(dtype=np.int64))
        if found > piece.most:
            raise DamagedError("it gives more nodes than the header states")
        if geometry_check(None, own) != piece.check:
            raise DamagedError("its check value does not match")
        self._nodes = nodes.below(occupancy)
        self.finest = piece.level
        self._counts[piece.level] = found

    def voxels(self) -> np.ndarray:
        """The known, most probable or central voxels of the tile: sorted Morton codes, uint64."""
        nodes, finest, task = self._nodes, self.finest, self._task
        if finest == 0:
            return nodes.own
        if is_sparse([self._counts[0], self._counts[1]]):
            return node_centers(nodes.own, finest, self._own_partial())
        start = max(finest, _SYNTHESIS_START)
        tree = Octree.build(nodes.codes, task.depth - finest)
        coarse = Octree(tree.codes[start - finest :], tree.occupancy[start - finest :])
        whole, own = len(nodes.codes), len(nodes.own)
        # The counts are of the tile; what is around it is reconstructed along.
        counts = {level: count * whole // own for level, count in self._counts.items() if level < finest}
        counts |= {finest + above: len(codes) for above, codes in enumerate(tree.codes)}
        known = Known(
            {level: tree.codes[level - finest] for level in range(finest, start + 1)},
            {start: nodes.neighbors if start == finest else map_below(coarse)},
            counts,
            partial=self._partial,
            exact=task.exact,
        )
        if finest > _SYNTHESIS_START or not task.exact:
            known.budget = task.budget * whole // own
        voxels = reconstruct(known, self._model)
        return voxels[voxels >> np.uint64(3 * task.level) == task.code]

    def _own_partial(self) -> Partial | None:
        partial, own = self._partial, ~self._nodes.outside
        return partial and Partial(partial.occupancy[own], partial.known[own], partial.expected[own])
