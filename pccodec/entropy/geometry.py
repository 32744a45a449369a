"""Coder of the geometry layers: the child bits of all nodes of a level, octant by octant.

Layer ``G_l`` holds, for each node of ``X_{l+1}``, which of its eight children
exist. The bits of octant 0 of all nodes come first, then octant 1, …; a layer
that is cut therefore still says something of every node. Within an octant the
nodes form two groups like the fields of a chessboard. A node has at least
one child: where the first seven bits are 0 the last is 1 and takes no bytes.
The network gives logits, which are adapted to the cloud while it is coded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from pccodec.entropy.calibration import Calibration, block_size
from pccodec.entropy.contexts import LocalContexts
from pccodec.entropy.rangecoder import RangeDecoder, RangeEncoder
from pccodec.model.occupancy import PASSES, LevelState, OccupancyNetwork, Told
from pccodec.model.rank_inputs import NodeRanks
from pccodec.voxels import morton
from pccodec.voxels.octree import POPCOUNT

_LAST = PASSES - 1
_HEADER_LEVELS = 4
FACES = (4, 10, 12, 14, 16, 22)
"""Columns of a neighbour map that are face neighbours."""


@dataclass(frozen=True)
class LevelContext:
    """What both sides know before a layer ``G_l`` is coded.

    Attributes:
        neighbors: int32 (n, 27), the neighbour map of ``X_{l+1}``.
        level: ``l``.
        counts: number of nodes by level, as far as known. Those of levels 0…3
            (from the header) and of levels above ``l`` are used; the decoder
            must hold the same ones as the encoder did.
        codes: uint64 (n,), the sorted Morton codes of ``X_{l+1}``. Without them (None to both
            sides) the layer takes more bytes: groups and planes follow from the codes.
        ranks: int8 (n, K), the latent ranks of ``X_{l+1}`` that were sent before the layer; None is
            the same as K = 0.
        outside: bool (n,), nodes whose child bits are not coded: both sides take the ones that the
            network finds most likely, and the others have them around them. None: all are coded.
    """

    neighbors: np.ndarray
    level: int
    counts: Mapping[int, int]
    codes: np.ndarray | None = None
    ranks: np.ndarray | None = None
    outside: np.ndarray | None = None

    def _known(self, level: int) -> int:
        shared = level < _HEADER_LEVELS or level > self.level
        return self.counts.get(level, 0) if shared else 0

    def _ratio(self, level: int) -> int:
        """Children a node that leads to ``level``, 16ths above one, in 0…112; 0 if unknown."""
        below, above = self._known(level), self._known(level + 1)
        return max(0, min(112, 16 * below // above - 16)) if below and above else 0

    @property
    def statistics(self) -> np.ndarray:
        """The level as a whole in integers 0…127, int64 (STATISTICS,), for the network."""
        count = len(self.neighbors)
        present = self.neighbors < count
        # The default integer has 32 bits on some machines.
        degree = present.sum(axis=1, dtype=np.int64)
        faces = int(present[:, FACES].sum(dtype=np.int64))
        return self.describe(count, int(degree.sum()), faces, int((degree == 1).sum()))

    def describe(self, count: int, pairs: int, faces: int, alone: int) -> np.ndarray:
        """:attr:`statistics` from sums over the neighbour map.

        Args:
            count: nodes of ``X_{l+1}``.
            pairs: their neighbours, each node counted as its own.
            faces: their face neighbours.
            alone: nodes without any neighbour.
        """
        level = self.level
        values = [
            64 * (level == 0),
            64 * (level == 1),
            64 * (level == 2),
            64 * (level >= 3),
            self._ratio(level),
            64 * (self._known(level) > 0),
            self._ratio(level + 1),
            self._ratio(level + 2),
            self._ratio(level - 1) if level else 0,
            64 * (level > 0 and self._known(level - 1) > 0),
            4 * pairs // count,
            16 * faces // count,
            127 * alone // count,
            min(127, 5 * count.bit_length()),
        ]
        return np.array(values, dtype=np.int64).clip(0, 127)


def second_group(codes: np.ndarray) -> np.ndarray:
    """Which nodes a pass codes second, bool (n,): those whose coordinates add up to an odd number.

    All six face neighbours of such a node are in the first group, as on a chessboard.
    """
    return POPCOUNT[(codes & np.uint64(7)).astype(np.uint8)] & 1 == 1


def _begin(
    network: OccupancyNetwork, context: LevelContext
) -> tuple[np.ndarray, np.ndarray, np.ndarray, LevelState]:
    """Coding order, codes and neighbour map in that order, and the network's state for it."""
    count = len(context.neighbors)
    codes = np.zeros(count, dtype=np.uint64) if context.codes is None else context.codes
    second = second_group(codes)
    order = np.argsort(second, kind="stable")
    place = np.full(count + 1, count, dtype=np.int32)
    place[order] = np.arange(count, dtype=np.int32)
    neighbors = place[context.neighbors[order]]
    ranks = None if context.ranks is None else NodeRanks(context.level + 1, context.ranks[order])
    state = network.begin(neighbors, context.statistics, count - int(second.sum()), ranks)
    return order, codes[order], neighbors, state


def coding_order(network: OccupancyNetwork, context: LevelContext) -> tuple[np.ndarray, LevelState]:
    """Nodes in coding order, group after group, int64 (n,), and the network's state for them."""
    order, _, _, state = _begin(network, context)
    return order, state


class _LevelCoder:
    """What encoder and decoder of a layer keep alike; nodes are in coding order, group after group."""

    def __init__(self, network: OccupancyNetwork, context: LevelContext) -> None:
        self.order, codes, neighbors, self.state = _begin(network, context)
        self._block = block_size(len(codes), in_tile=context.outside is not None)
        self._contexts = LocalContexts(neighbors)
        self.calibration = Calibration(morton.decode(codes))
        self._outside = None if context.outside is None else context.outside[self.order]

    def start_group(self, octant: int, group: int, occupancy: np.ndarray, logits: np.ndarray) -> None:
        """Begin with the bits of an octant and a group, 0 or 1; ``logits`` (n,) get the network's there."""
        if group == 0:
            self.calibration.start_pass(octant, self._contexts.keys(octant, occupancy))
        for nodes, found in self.state.logits():
            logits[nodes] = found

    def blocks(self, start: int, stop: int) -> Iterator[slice]:
        """Blocks of nodes that the calibration learns from; at ``start`` a group or a block begins."""
        for first in range(start, stop, self._block):
            yield slice(first, min(first + self._block, stop))

    def coded(self, octant: int, nodes: slice, occupancy: np.ndarray) -> np.ndarray | None:
        """Indices within a block of the nodes whose bit takes bytes; None for all."""
        inside = None if self._outside is None else ~self._outside[nodes]
        if octant == _LAST:
            # The last bit is certain where none of the seven before is set.
            open_ = occupancy[nodes] & (1 << _LAST) - 1 != 0
            return np.flatnonzero(open_ if inside is None else open_ & inside)
        return None if inside is None else np.flatnonzero(inside)

    def forget(self, occupancy: np.ndarray) -> None:
        """Clear the child bits, in coding order, of the nodes outside, in place."""
        if self._outside is not None:
            occupancy[self._outside] = 0

    def inside(self, nodes: slice, bits: np.ndarray) -> np.ndarray:
        """``bits``, uint8, of some nodes, 0 for those outside."""
        return bits if self._outside is None else np.where(self._outside[nodes], np.uint8(0), bits)

    def take(self, octant: int, nodes: slice, occupancy: np.ndarray, logits: np.ndarray) -> None:
        """Set the bits of the nodes outside in a block that the network finds more likely than not.

        Args:
            octant: the octant.
            nodes: the block.
            occupancy: uint8 (n,), the child bits so far; changed in place.
            logits: of the block's nodes.
        """
        if self._outside is None:
            return
        where = np.flatnonzero(self._outside[nodes])
        likely = logits[where] > 0
        where += nodes.start
        if octant == _LAST:
            likely |= occupancy[where] & (1 << _LAST) - 1 == 0
        occupancy[where] |= likely.astype(np.uint8) << np.uint8(octant)


def encode_level(network: OccupancyNetwork, context: LevelContext, occupancy: np.ndarray) -> bytes:
    """Layer ``G_l`` as bytes.

    Args:
        network: the integer network.
        context: what the decoder will know.
        occupancy: uint8 (n,), the child bits of each node of ``X_{l+1}``, none 0.
    """
    return encode_inside(network, context, occupancy)[0]


def encode_inside(
    network: OccupancyNetwork, context: LevelContext, occupancy: np.ndarray
) -> tuple[bytes, np.ndarray]:
    """Layer ``G_l`` of the nodes that are not outside, as bytes, and the child bits of all, uint8 (n,).

    Args:
        network: the integer network.
        context: what the decoder will know.
        occupancy: uint8 (n,), the child bits of each node of ``X_{l+1}``, none 0; of nodes outside
            they are of no meaning.
    """
    encoder, coder = RangeEncoder(), _LevelCoder(network, context)
    occupancy, logits = occupancy[coder.order], np.empty(len(occupancy))
    coder.forget(occupancy)
    for octant in range(PASSES):
        for index, group in enumerate(coder.state.groups):
            coder.start_group(octant, index, occupancy, logits)
            for nodes in coder.blocks(group.start, group.stop):
                chosen, found = coder.coded(octant, nodes, occupancy), logits[nodes]
                coder.take(octant, nodes, occupancy, found)
                part = (occupancy[nodes] >> octant) & 1
                if chosen is not None:
                    part, found = part[chosen], found[chosen]
                encoder.encode_bits(part, coder.calibration.predict(nodes, chosen, found))
                coder.calibration.update(part)
            coder.state.observe((occupancy[group] >> octant) & 1)
    coded = np.empty_like(occupancy)
    coded[coder.order] = occupancy
    return encoder.finish(), coded


def decode_level(
    network: OccupancyNetwork, context: LevelContext, data: bytes, complete: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Child bits from a layer, or from its first bytes: :meth:`LevelDecoder.decode` of a new decoder."""
    return LevelDecoder(network, context).decode(data, complete)


@dataclass
class Milestone:
    """What a layer's decoder knew at the end of an octant.

    Attributes:
        octants: how many octants were known.
        told: what they told the network; None at the beginning of a layer, and once ``expected`` is found.
        expected: int32 (n, 8), logits of the octants to come that were found from it, if they were.
    """

    octants: int
    told: Told | None
    expected: np.ndarray | None = None


class LevelDecoder:
    """Decodes a layer whose bytes may arrive piece by piece.

    Args:
        network: the network that encoded the layer.
        context: as it was when encoding.
        milestones: mask of the octants behind which what they told is kept while the layer is not
            complete; bit ``j`` stands for the end of the first ``j + 1``.

    Attributes:
        order: int64 (n,), the nodes in coding order, group after group.
        state: the network's, behind :meth:`LevelState.logits` of the current octant and group.
        octant: the octant whose bits come next; 8 if all are known.
        group: index of the group whose bits come next.
        occupancy: uint8 (n,) in coding order, the known child bits.
        known: uint8 (n,) in coding order, a set bit where the child bit is known.
        logits: float64 (n,) in coding order, the network's of the current octant and group; of no
            meaning elsewhere.
        milestone: the last one, at first the beginning of the layer.
    """

    def __init__(self, network: OccupancyNetwork, context: LevelContext, milestones: int = 0) -> None:
        self.network, self.context = network, context
        self._coder = _LevelCoder(network, context)
        self._milestones, self.milestone = milestones, Milestone(0, None)
        self.order, self.state = self._coder.order, self._coder.state
        count = len(self.order)
        self.octant, self.group = 0, 0
        self.occupancy, self.known = np.zeros(count, dtype=np.uint8), np.zeros(count, dtype=np.uint8)
        self.logits = np.zeros(count)
        self._next: int | None = None
        self._range: RangeDecoder | None = None

    def decode(self, data: bytes, complete: bool) -> tuple[np.ndarray, np.ndarray]:
        """Child bits from the layer, or from its first bytes.

        Args:
            data: the layer's bytes, or its beginning: all that was given before, and more.
            complete: whether ``data`` is the whole layer.

        Returns:
            occupancy uint8 (n,), and known uint8 (n,), in the order of the nodes: bit ``o`` of
            ``known`` is set where bit ``o`` of ``occupancy`` is determined; all other bits are 0.
            A complete layer is known entirely (255).

        Raises:
            DamagedError: if a complete layer holds what no encoder writes.
        """
        if self._range is None:
            self._range = RangeDecoder(data, complete)
        else:
            self._range.extend(data, complete)
        while self.octant < PASSES and self._decode_group(self._range):
            self.state.observe((self.occupancy[self.state.groups[self.group]] >> self.octant) & 1)
            self._next = None
            self.group = 1 - self.group
            if self.group == 0:
                self.octant += 1
                if not complete and self._milestones >> self.octant - 1 & 1:
                    self.milestone = Milestone(self.octant, self.state.told())
        occupancy, known = np.empty_like(self.occupancy), np.empty_like(self.known)
        occupancy[self.order], known[self.order] = self.occupancy, self.known
        return occupancy, known

    def _decode_group(self, decoder: RangeDecoder) -> bool:
        """Go on in the current group; whether its end is reached."""
        coder, octant, group = self._coder, self.octant, self.state.groups[self.group]
        if self._next is None:
            coder.start_group(octant, self.group, self.occupancy, self.logits)
            self._next = group.start
        for nodes in coder.blocks(self._next, group.stop):
            logits = self.logits[nodes]
            chosen = coder.coded(octant, nodes, self.occupancy)
            part = logits if chosen is None else logits[chosen]
            decoded = decoder.decode_bits(coder.calibration.predict(nodes, chosen, part))
            bits, reached = decoded, len(logits)
            if chosen is None:
                reached = len(decoded)
            else:
                bits = np.full(len(logits), octant == _LAST, dtype=np.uint8)
                bits[chosen[: len(decoded)]] = decoded
                if decoder.exhausted:
                    # Certain bits take no bytes, but the nodes before them must be known.
                    reached = int(chosen[len(decoded)])
            told = slice(nodes.start, nodes.start + reached)
            self.occupancy[told] |= coder.inside(told, bits[:reached]) << np.uint8(octant)
            coder.take(octant, told, self.occupancy, logits[:reached])
            self.known[told] |= np.uint8(1 << octant)
            if decoder.exhausted:
                return False
            coder.calibration.update(decoded)
            self._next = nodes.stop
        return True
