"""Coder of the geometry layers: the child bits of all nodes of a level, octant by octant.

Layer ``G_l`` holds, for each node of ``X_{l+1}``, which of its eight children
exist. The bits of octant 0 of all nodes come first, then octant 1, …; a layer
that is cut therefore still says something of every node. A node has at least
one child: where the first seven bits are 0 the last is 1 and takes no bytes.
The network gives logits, which are adapted to the cloud while it is coded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from pccodec.entropy.calibration import BLOCK, Calibration
from pccodec.entropy.contexts import LocalContexts
from pccodec.entropy.rangecoder import RangeDecoder, RangeEncoder
from pccodec.model.occupancy import PASSES, LevelState, OccupancyNetwork
from pccodec.voxels import morton

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
        codes: uint64 (n,), the nodes of ``X_{l+1}``; None if unknown to both
            sides, then planes of the grid are not looked at.
    """

    neighbors: np.ndarray
    level: int
    counts: Mapping[int, int]
    codes: np.ndarray | None = None

    def _known(self, level: int) -> int:
        shared = level < _HEADER_LEVELS or level > self.level
        return self.counts.get(level, 0) if shared else 0

    def _ratio(self, level: int) -> int:
        """Children a node that leads to ``level``, 16ths above one, in 0…112; 0 if unknown."""
        below, above = self._known(level), self._known(level + 1)
        return max(0, min(112, 16 * below // above - 16)) if below and above else 0

    @property
    def coords(self) -> np.ndarray:
        """Coordinates, int32 (n, 3), of the nodes; all zero if the codes are not known."""
        if self.codes is None:
            return np.zeros((len(self.neighbors), 3), dtype=np.int32)
        return morton.decode(self.codes)

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


def _blocks(state: LevelState) -> Iterator[tuple[slice, np.ndarray]]:
    """Nodes and logits of a pass in the blocks that the calibration learns from."""
    for nodes, logits in state.logits():
        for start in range(0, len(logits), BLOCK):
            part = logits[start : start + BLOCK]
            yield slice(nodes.start + start, nodes.start + start + len(part)), part


def _open(occupancy: np.ndarray) -> np.ndarray:
    """Indices of the nodes whose last bit is not certain: one of the seven before is set."""
    return np.flatnonzero(occupancy & (1 << _LAST) - 1)


def encode_level(network: OccupancyNetwork, context: LevelContext, occupancy: np.ndarray) -> bytes:
    """Layer ``G_l`` as bytes.

    Args:
        network: the integer network.
        context: what the decoder will know.
        occupancy: uint8 (n,), the child bits of each node of ``X_{l+1}``, none 0.
    """
    encoder = RangeEncoder()
    state = network.begin(context.neighbors, context.statistics)
    calibration, local = Calibration(context.coords), LocalContexts(context.neighbors)
    for octant in range(PASSES):
        bits = (occupancy >> octant) & 1
        calibration.start_pass(octant, local.keys(octant, occupancy))
        for nodes, logits in _blocks(state):
            chosen = _open(occupancy[nodes]) if octant == _LAST else None
            part = bits[nodes]
            if chosen is not None:
                part, logits = part[chosen], logits[chosen]
            encoder.encode_bits(part, calibration.predict(nodes, chosen, logits))
            calibration.update(part)
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
    calibration, local = Calibration(context.coords), LocalContexts(context.neighbors)
    for octant in range(PASSES):
        bits = np.zeros(count, dtype=np.uint8)
        calibration.start_pass(octant, local.keys(octant, occupancy))
        for nodes, logits in _blocks(state):
            reached = len(logits)
            chosen = _open(occupancy[nodes]) if octant == _LAST else None
            if chosen is None:
                decoded = decoder.decode_bits(calibration.predict(nodes, None, logits))
                reached = len(decoded)
                bits[nodes][:reached] = decoded
            else:
                decoded = decoder.decode_bits(calibration.predict(nodes, chosen, logits[chosen]))
                if len(decoded) < len(chosen):
                    # Certain bits take no bytes, but the nodes before them must be known.
                    reached = int(chosen[len(decoded)])
                bits[nodes][:reached] = 1
                bits[nodes][chosen[: len(decoded)]] = decoded
            known[nodes][:reached] |= np.uint8(1 << octant)
            if decoder.exhausted:
                break
            calibration.update(decoded)
        occupancy |= bits << np.uint8(octant)
        if decoder.exhausted:
            break
        if octant < _LAST:
            state.observe(bits)
    return occupancy, known
