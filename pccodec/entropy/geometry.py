"""Coder of the geometry layers: the child bits of all nodes of a level, octant by octant.

Layer ``G_l`` holds, for each node of ``X_{l+1}``, which of its eight children
exist. The bits of octant 0 of all nodes come first, then octant 1, …; a layer
that is cut therefore still says something of every node. A node has at least
one child: where the first seven bits are 0 the last is 1 and takes no bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pccodec.entropy.rangecoder import RangeDecoder, RangeEncoder
from pccodec.model.occupancy import PASSES, OccupancyNetwork

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
    """

    neighbors: np.ndarray
    level: int
    counts: Mapping[int, int]

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
        degree = present.sum(axis=1)
        faces = int(present[:, _FACES].sum())
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


def encode_level(network: OccupancyNetwork, context: LevelContext, occupancy: np.ndarray) -> bytes:
    """Layer ``G_l`` as bytes.

    Args:
        network: the integer network.
        context: what the decoder will know.
        occupancy: uint8 (n,), the child bits of each node of ``X_{l+1}``, none 0.
    """
    encoder = RangeEncoder()
    state = network.begin(context.neighbors, context.statistics)
    for octant in range(PASSES):
        bits = (occupancy >> octant) & 1
        for block, p_one in state.probabilities():
            part = bits[block]
            if octant == _LAST:
                open_ = (occupancy[block] & (1 << _LAST) - 1) != 0
                part, p_one = part[open_], p_one[open_]
            encoder.encode_bits(part, p_one)
        if octant < _LAST:
            state.observe(bits)
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
    decoder = RangeDecoder(data, complete)
    count = len(context.neighbors)
    occupancy, known = np.zeros(count, dtype=np.uint8), np.zeros(count, dtype=np.uint8)
    state = network.begin(context.neighbors, context.statistics)
    for octant in range(PASSES):
        bits = np.zeros(count, dtype=np.uint8)
        for block, p_one in state.probabilities():
            open_ = np.ones(len(p_one), dtype=bool)
            if octant == _LAST:
                open_ = occupancy[block] != 0
            decoded = decoder.decode_bits(p_one[open_])
            reached = np.cumsum(open_) <= len(decoded)
            # A certain bit needs no bytes, but the nodes before it must be known.
            value = (~open_).astype(np.uint8)
            value[np.flatnonzero(open_)[: len(decoded)]] = decoded
            bits[block] = value & reached
            known[block] |= reached.astype(np.uint8) << np.uint8(octant)
            if decoder.exhausted:
                break
        occupancy |= bits << np.uint8(octant)
        if decoder.exhausted:
            break
        if octant < _LAST:
            state.observe(bits)
    return occupancy, known
