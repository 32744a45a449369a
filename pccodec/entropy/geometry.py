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
from pccodec.model.occupancy import PASSES, LevelState, OccupancyNetwork
from pccodec.model.rank_inputs import NodeRanks
from pccodec.voxels import morton
from pccodec.voxels.octree import POPCOUNT

_LAST = PASSES - 1
_HEADER_LEVELS = 4
_FACES = (4, 10, 12, 14, 16, 22)


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
    """

    neighbors: np.ndarray
    level: int
    counts: Mapping[int, int]
    codes: np.ndarray | None = None
    ranks: np.ndarray | None = None

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
        level, count = self.level, len(self.neighbors)
        present = self.neighbors < count
        # The default integer has 32 bits on some machines.
        degree = present.sum(axis=1, dtype=np.int64)
        faces = int(present[:, _FACES].sum(dtype=np.int64))
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
            4 * int(degree.sum()) // count,
            16 * faces // count,
            127 * int((degree == 1).sum()) // count,
            min(127, 5 * count.bit_length()),
        ]
        return np.array(values, dtype=np.int64).clip(0, 127)


def second_group(codes: np.ndarray) -> np.ndarray:
    """Which nodes a pass codes second, bool (n,): those whose coordinates add up to an odd number.

    All six face neighbours of such a node are in the first group, as on a chessboard.
    """
    return POPCOUNT[(codes & np.uint64(7)).astype(np.uint8)] & 1 == 1


def _blocks(state: LevelState, size: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Nodes and logits of a group in the blocks that the calibration learns from."""
    for nodes, logits in state.logits():
        for start in range(0, len(logits), size):
            part = logits[start : start + size]
            yield slice(nodes.start + start, nodes.start + start + len(part)), part


def _open(occupancy: np.ndarray) -> np.ndarray:
    """Indices of the nodes whose last bit is not certain: one of the seven before is set."""
    return np.flatnonzero(occupancy & (1 << _LAST) - 1)


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
        self.block = block_size(len(codes))
        self.contexts = LocalContexts(neighbors)
        self.calibration = Calibration(morton.decode(codes))


def encode_level(network: OccupancyNetwork, context: LevelContext, occupancy: np.ndarray) -> bytes:
    """Layer ``G_l`` as bytes.

    Args:
        network: the integer network.
        context: what the decoder will know.
        occupancy: uint8 (n,), the child bits of each node of ``X_{l+1}``, none 0.
    """
    encoder, coder = RangeEncoder(), _LevelCoder(network, context)
    occupancy = occupancy[coder.order]
    for octant in range(PASSES):
        bits = (occupancy >> octant) & 1
        coder.calibration.start_pass(octant, coder.contexts.keys(octant, occupancy))
        for group in coder.state.groups:
            for nodes, logits in _blocks(coder.state, coder.block):
                part = bits[nodes]
                chosen = _open(occupancy[nodes]) if octant == _LAST else None
                if chosen is not None:
                    part, logits = part[chosen], logits[chosen]
                encoder.encode_bits(part, coder.calibration.predict(nodes, chosen, logits))
                coder.calibration.update(part)
            coder.state.observe(bits[group])
    return encoder.finish()


def decode_level(
    network: OccupancyNetwork, context: LevelContext, data: bytes, complete: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Child bits from a layer, or from its first bytes.

    Args:
        network: the network that encoded the layer.
        context: as it was when encoding.
        data: the layer's bytes, or its beginning.
        complete: whether ``data`` is the whole layer.

    Returns:
        occupancy uint8 (n,), and known uint8 (n,): bit ``o`` of ``known`` is set
        where bit ``o`` of ``occupancy`` is determined; all other bits are 0.
        A complete layer is known entirely (255).

    Raises:
        DamagedError: if a complete layer holds what no encoder writes.
    """
    coder = _LevelCoder(network, context)
    coded, determined = _decode(coder, RangeDecoder(data, complete))
    occupancy, known = np.empty_like(coded), np.empty_like(determined)
    occupancy[coder.order], known[coder.order] = coded, determined
    return occupancy, known


def _decode(coder: _LevelCoder, decoder: RangeDecoder) -> tuple[np.ndarray, np.ndarray]:
    """Occupancy and known bits, uint8 (n,), in coding order."""
    count = len(coder.order)
    occupancy, known = np.zeros(count, dtype=np.uint8), np.zeros(count, dtype=np.uint8)
    for octant in range(PASSES):
        bits = np.zeros(count, dtype=np.uint8)
        coder.calibration.start_pass(octant, coder.contexts.keys(octant, occupancy))
        for group in coder.state.groups:
            for nodes, logits in _blocks(coder.state, coder.block):
                chosen = _open(occupancy[nodes]) if octant == _LAST else None
                part = logits if chosen is None else logits[chosen]
                decoded = decoder.decode_bits(coder.calibration.predict(nodes, chosen, part))
                reached = nodes.start + len(logits)
                if chosen is None:
                    if decoder.exhausted:
                        reached = nodes.start + len(decoded)
                    bits[nodes.start : reached] = decoded
                else:
                    if decoder.exhausted:
                        # Certain bits take no bytes, but the nodes before them must be known.
                        reached = nodes.start + int(chosen[len(decoded)])
                    bits[nodes.start : reached] = 1
                    bits[nodes.start + chosen[: len(decoded)]] = decoded
                known[nodes.start : reached] |= np.uint8(1 << octant)
                if decoder.exhausted:
                    return occupancy | bits << np.uint8(octant), known
                coder.calibration.update(decoded)
            coder.state.observe(bits[group])
        occupancy |= bits << np.uint8(octant)
    return occupancy, known
