"""Integer context network: probabilities of the child bits of an octree level.

The child bits of a level are coded in eight passes, pass ``j`` coding octant
``j`` of all nodes, so that its context holds the octants before ``j`` of a node
*and of all its neighbours*. A pass has two groups of nodes, like the fields of a
chessboard: the second one knows bit ``j`` of the first one too. Per level:

    near   (n, C)   which of the 27 cells around a node are occupied, level statistics
    wide   (n, C)   3x3x3 convolution of near
    sums   (n, H)   3x3x3 convolution of wide; pass j adds a 3x3x3 convolution of bits j-1

Where latent ranks of the nodes came before the layer, near and wide also have a linear map
of a node's symbols, and sums a 3x3x3 convolution of them and a constant that says how many
ranks there are, of each level their own.

and in each pass

    hidden  = act(sums + bias_j)            message = act(hidden · M_j)     8 channels
    second  = act(sums + bias_j + 3x3x3 convolution of the first group's bits j)
    mixed   = act((hidden or second) · O_j + 3x3x3 convolution of message)
    logit   = act(mixed · D_j) · l_j        of bit j, in 1/128 nat

Everything is exact integer arithmetic (:mod:`pccodec.sparse.integer`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from pccodec.model.config import LATENT_LEVELS, LIMIT
from pccodec.model.probability import LOGIT_MAX
from pccodec.model.rank_inputs import RANKS_MAX, HeardRanks, NodeRanks, RankWeights
from pccodec.model.remaining import RemainingNetwork
from pccodec.sparse.integer import (
    ACTIVATION_MAX,
    BIAS_BITS,
    ExactSum,
    activate,
    gathered,
    node_blocks,
    require,
)
from pccodec.sparse.neighbors import KERNEL

PASSES = 8
STATISTICS = 14
"""Integers 0…127 that describe the level as a whole."""
MESSAGE = 8
"""Channels of the message convolution: eight bytes are gathered as one word."""
TENSOR_PREFIX = "geometry."


class OccupancyNetwork:
    """The network with its weights; immutable, one instance serves all levels and clouds."""

    def __init__(self, tensors: Mapping[str, np.ndarray]) -> None:
        self._tensors = {name: np.asarray(value) for name, value in tensors.items()}
        near, hidden = self._get("presence.weight").shape[1], self._get("start.weight").shape[1]
        mixed = self._get("deep.weight").shape[2]
        wide = self._get("wide.weight").shape[1]
        require("presence.weight", near in (8, 16))
        require("wide.weight", wide in (8, 16))
        shapes = {
            "presence": (KERNEL, near),
            "statistics": (STATISTICS, near),
            "wide": (KERNEL * near, wide),
            "start": (KERNEL * wide, hidden),
            "bits": (PASSES - 1, KERNEL, hidden),
            "same": (PASSES, KERNEL, hidden),
            "message": (PASSES, hidden, MESSAGE),
            "own": (PASSES, hidden, mixed),
            "around": (PASSES, KERNEL * MESSAGE, mixed),
            "deep": (PASSES, mixed, mixed),
            "logit": (PASSES, mixed, 1),
        }
        self._hears_ranks = f"{TENSOR_PREFIX}ranks.bias" in self._tensors
        if self._hears_ranks:
            inputs = {"ranks.near": (RANKS_MAX, near), "ranks.wide": (RANKS_MAX, wide)}
            inputs["ranks.sums"] = KERNEL * RANKS_MAX, hidden
            shapes.update({name: (len(LATENT_LEVELS), *shape) for name, shape in inputs.items()})
        for name, shape in shapes.items():
            weight, shift = self._get(f"{name}.weight"), self._get(f"{name}.shift")
            require(f"{name}.weight", weight.shape == shape and weight.dtype == np.int8)
            require(f"{name}.shift", shift.shape == shape[:-2] + shape[-1:] and shift.dtype == np.int8)
        top = ACTIVATION_MAX
        self.hidden_size = hidden
        self.near = ExactSum(
            "presence",
            [self._part("presence", 1), self._part("statistics", top), *self._rank_parts("near")],
            self._bias("presence"),
        )
        self.wide = ExactSum("wide", [self._part("wide", top), *self._rank_parts("wide")], self._bias("wide"))
        bits = [self._part("bits", 1, j) for j in range(PASSES - 1)]
        ranks = [*self._rank_parts("sums"), *self._rank_constants()]
        hidden_bias = self._get("hidden.bias")
        require("hidden.bias", hidden_bias.shape == (PASSES, hidden))
        start_bias = self._bias("start")
        self.hidden = [
            ExactSum(
                f"hidden {j}", [self._part("start", top), *bits[:j], *ranks], start_bias + hidden_bias[j]
            )
            for j in range(PASSES)
        ]
        self.remaining = [RemainingNetwork(self._tensors, octants, hidden) for octants in range(PASSES)]
        self.told = [
            ExactSum(
                f"remaining {j}", [self._part("start", top), *bits[:j], *ranks], start_bias + network.bias
            )
            for j, network in enumerate(self.remaining)
        ]
        self.second = [
            ExactSum(
                f"second {j}",
                [self._part("start", top), *bits[:j], *ranks, self._part("same", 1, j)],
                start_bias + hidden_bias[j],
            )
            for j in range(PASSES)
        ]
        self.ranks: dict[int, RankWeights] = {}
        if ranks:
            constants = np.split(self.hidden[0].weights[-1], len(LATENT_LEVELS))
            for index, level in enumerate(LATENT_LEVELS):
                self.ranks[level] = RankWeights(
                    self.near.weights[2 + index],
                    self.wide.weights[1 + index],
                    self.hidden[0].weights[1 + index],
                    constants[index],
                )
        self.message = [
            ExactSum("message", [self._part("message", top, j)], self._bias("message", j))
            for j in range(PASSES)
        ]
        self.mixed = [
            ExactSum(
                "around", [self._part("own", top, j), self._part("around", top, j)], self._bias("around", j)
            )
            for j in range(PASSES)
        ]
        self.deep = [
            ExactSum("deep", [self._part("deep", top, j)], self._bias("deep", j)) for j in range(PASSES)
        ]
        self.logit = [
            ExactSum("logit", [self._part("logit", top, j)], self._bias("logit", j)) for j in range(PASSES)
        ]

    def _get(self, name: str) -> np.ndarray:
        require(name, TENSOR_PREFIX + name in self._tensors)
        return self._tensors[TENSOR_PREFIX + name]

    def _part(self, name: str, largest: int, index: int | None = None) -> tuple[np.ndarray, np.ndarray, int]:
        weight, shift = self._get(f"{name}.weight"), self._get(f"{name}.shift")
        return (weight, shift, largest) if index is None else (weight[index], shift[index], largest)

    def _rank_parts(self, layer: str) -> list[tuple[np.ndarray, np.ndarray, int]]:
        """What the ranks of each level add to a layer's sum."""
        levels = range(len(LATENT_LEVELS)) if self._hears_ranks else ()
        return [self._part(f"ranks.{layer}", LIMIT, index) for index in levels]

    def _rank_constants(self) -> list[tuple[np.ndarray, np.ndarray, int]]:
        """The constants of all levels and numbers of ranks: one of them has input 1."""
        if not self._hears_ranks:
            return []
        bias, hidden = self._get("ranks.bias"), self._get("start.weight").shape[1]
        require("ranks.bias", bias.shape == (len(LATENT_LEVELS), RANKS_MAX, hidden))
        require("ranks.bias", bias.dtype == np.int32)
        return [(bias.reshape(-1, hidden), np.full(hidden, BIAS_BITS), 1)]

    def _bias(self, name: str, index: int | None = None) -> np.ndarray:
        bias, weight = self._get(f"{name}.bias"), self._get(f"{name}.weight")
        require(
            f"{name}.bias", bias.shape == weight.shape[:-2] + weight.shape[-1:] and bias.dtype == np.int32
        )
        return (bias if index is None else bias[index]).astype(np.int64)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, np.ndarray]) -> OccupancyNetwork:
        """The network in a model file's tensors (other names than ``geometry.*`` are ignored).

        Raises:
            ModelError: if tensors are missing, have the wrong shape, or could overflow.
        """
        return cls({name: value for name, value in tensors.items() if name.startswith(TENSOR_PREFIX)})

    def to_tensors(self) -> dict[str, np.ndarray]:
        """The tensors that :meth:`from_tensors` takes, named ``geometry.*``."""
        return dict(self._tensors)

    def begin(
        self, neighbors: np.ndarray, statistics: np.ndarray, first: int, ranks: NodeRanks | None = None
    ) -> LevelState:
        """Start a level.

        Args:
            neighbors: int32 (n, 27), of nodes in coding order.
            statistics: (STATISTICS,), integers in 0…127.
            first: how many nodes form the first group; the others form the second.
            ranks: latent ranks of the nodes, if they are known.
        """
        return LevelState(self, neighbors, statistics, first, ranks)


@dataclass(frozen=True)
class Told:
    """What the octants before a pass tell of a level.

    Attributes:
        network: the network.
        octants: how many are known.
        sums: fp32 (n, H), what the network made of them.
        neighbors: int32 (n, 27).
    """

    network: OccupancyNetwork
    octants: int
    sums: np.ndarray
    neighbors: np.ndarray

    def remaining(self) -> np.ndarray:
        """Logits int16 (n, 8) of the bits that are not known; of the others they are of no meaning."""
        offset = self.network.told[self.octants].offset
        return self.network.remaining[self.octants].logits(self.sums, offset, self.neighbors)


class LevelState:
    """What the network knows of one level, pass by pass and group by group.

    In each of the eight passes, call :meth:`logits` and then :meth:`observe`
    for each group in turn.

    Attributes:
        groups: the nodes of each group.
    """

    def __init__(
        self,
        network: OccupancyNetwork,
        neighbors: np.ndarray,
        statistics: np.ndarray,
        first: int,
        ranks: NodeRanks | None = None,
    ) -> None:
        self._network = network
        self._neighbors = neighbors
        self._pass, self._group = 0, 0
        count = len(neighbors)
        self.groups = (slice(0, first), slice(first, count))
        self._bits = np.zeros(count + 1, dtype=np.uint8)
        self._message = np.zeros((count + 1, MESSAGE), dtype=np.uint8)
        self._own = np.empty((count, network.mixed[0].weights[0].shape[1]), dtype=np.float32)
        self._sums = np.empty((count, network.hidden_size), dtype=np.float32)
        heard = None
        if ranks is not None and ranks.level in network.ranks and ranks.symbols.shape[1]:
            heard = HeardRanks(network.ranks[ranks.level], ranks.symbols)
        _, described = network.near.weights[:2]
        near = np.zeros((count + 1, described.shape[1]), dtype=np.uint8)
        constant = statistics.astype(np.float32) @ described + network.near.offset
        for block in node_blocks(count):
            sums = network.near.times((self._neighbors[block] < count).view(np.uint8)) + constant
            near[block] = activate(sums if heard is None else sums + heard.near(block))
        wide = np.zeros((count + 1, network.wide.weights[0].shape[1]), dtype=np.uint8)
        for block in node_blocks(count):
            sums = network.wide.times(gathered(near, self._neighbors[block])) + network.wide.offset
            wide[block] = activate(sums if heard is None else sums + heard.wide(block))
        for block in node_blocks(count):
            self._sums[block] = network.hidden[0].times(gathered(wide, self._neighbors[block]))
            if heard is not None:
                self._sums[block] += heard.sums(self._neighbors[block])

    def told(self) -> Told:
        """What is known at the beginning of a pass; it stays as it is when this state goes on."""
        return Told(self._network, self._pass, self._sums.copy(), self._neighbors)

    def logits(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Nodes and their logits, integers in float64 (b,), of the current group, block by block."""
        if self._group == 0:
            self._send_messages()
        else:
            self._hear_first_group()
        net, j = self._network, self._pass
        group = self.groups[self._group]
        for nodes in node_blocks(group.stop, group.start):
            sums = net.mixed[j].times(gathered(self._message, self._neighbors[nodes]), part=1)
            sums += self._own[nodes]
            deep = activate(net.deep[j].times(activate(sums)) + net.deep[j].offset)
            logit = np.floor(net.logit[j].times(deep)[:, 0] + net.logit[j].offset)
            yield nodes, np.clip(logit, -LOGIT_MAX, LOGIT_MAX).astype(np.float64)

    def _send_messages(self) -> None:
        net, j = self._network, self._pass
        for block in node_blocks(len(self._sums)):
            hidden = activate(self._sums[block] + net.hidden[j].offset)
            self._message[block] = activate(net.message[j].times(hidden) + net.message[j].offset)
            np.add(net.mixed[j].times(hidden), net.mixed[j].offset, out=self._own[block])

    def _hear_first_group(self) -> None:
        net, j = self._network, self._pass
        for nodes in node_blocks(self.groups[1].stop, self.groups[1].start):
            sums = net.second[j].times(self._bits_around(nodes), part=len(net.second[j].weights) - 1)
            sums += self._sums[nodes]
            sums += net.second[j].offset
            self._own[nodes] = net.mixed[j].times(activate(sums)) + net.mixed[j].offset

    def _bits_around(self, nodes: slice) -> np.ndarray:
        """Known bits of this pass's octant around nodes, uint8 (b, 27); 0 where unknown."""
        return np.take(self._bits, self._neighbors[nodes].astype(np.intp))

    def observe(self, bits: np.ndarray) -> None:
        """Take in the bits, uint8, of the current group and octant, and go on to what comes next."""
        self._bits[self.groups[self._group]] = bits
        self._group += 1
        if self._group < len(self.groups):
            return
        self._pass, self._group = self._pass + 1, 0
        if self._pass < PASSES:
            hidden = self._network.hidden[self._pass]
            for block in node_blocks(len(self._sums)):
                self._sums[block] += hidden.times(self._bits_around(block), part=self._pass)
        self._bits[:] = 0
