"""Integer context network: probabilities of the child bits of an octree level.

The child bits of a level are coded in eight passes, pass ``j`` coding octant
``j`` of all nodes, so that its context holds the octants before ``j`` of a node
*and of all its neighbours*. A pass has two groups of nodes, like the fields of a
chessboard: the second one knows bit ``j`` of the first one too. Per level:

    near   (n, C)   which of the 27 cells around a node are occupied, level statistics
    wide   (n, C)   3x3x3 convolution of near
    sums   (n, H)   3x3x3 convolution of wide; pass j adds a 3x3x3 convolution of bits j-1

Where latent ranks of the nodes came before the layer, sums also has a 3x3x3 convolution
of their symbols and a constant that says how many ranks there are, of each level its own.

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
LOGIT_UNIT = 128
"""Logits are integers in units of 1/128 nat."""
LOGIT_MAX = 2047
RANKS_MAX = 4
"""Latent ranks of a level that the network hears; later ones tell it nothing."""
TENSOR_PREFIX = "geometry."


@dataclass(frozen=True)
class NodeRanks:
    """Latent ranks of the nodes of ``X_level``: int8 (n, K), in the order of the nodes."""

    level: int
    symbols: np.ndarray


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
        self._hears_ranks = f"{TENSOR_PREFIX}ranks.weight" in self._tensors
        if self._hears_ranks:
            shapes["ranks"] = (len(LATENT_LEVELS), KERNEL * RANKS_MAX, hidden)
        for name, shape in shapes.items():
            weight, shift = self._get(f"{name}.weight"), self._get(f"{name}.shift")
            require(f"{name}.weight", weight.shape == shape and weight.dtype == np.int8)
            require(f"{name}.shift", shift.shape == shape[:-2] + shape[-1:] and shift.dtype == np.int8)
        top = ACTIVATION_MAX
        self.hidden_size = hidden
        self.near = ExactSum(
            "presence", [self._part("presence", 1), self._part("statistics", top)], self._bias("presence")
        )
        self.wide = ExactSum("wide", [self._part("wide", top)], self._bias("wide"))
        bits = [self._part("bits", 1, j) for j in range(PASSES - 1)]
        ranks = self._rank_parts()
        hidden_bias = self._get("hidden.bias")
        require("hidden.bias", hidden_bias.shape == (PASSES, hidden))
        start_bias = self._bias("start")
        self.hidden = [
            ExactSum(
                f"hidden {j}", [self._part("start", top), *bits[:j], *ranks], start_bias + hidden_bias[j]
            )
            for j in range(PASSES)
        ]
        self.second = [
            ExactSum(
                f"second {j}",
                [self._part("start", top), *bits[:j], *ranks, self._part("same", 1, j)],
                start_bias + hidden_bias[j],
            )
            for j in range(PASSES)
        ]
        # Of each level, fp32: weight (27 RANKS_MAX, H) and constants (RANKS_MAX, H).
        self.ranks: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        if ranks:
            _, *weights, constants = self.hidden[0].weights
            by_level = np.split(constants, len(LATENT_LEVELS))
            self.ranks = dict(zip(LATENT_LEVELS, zip(weights, by_level, strict=True), strict=True))
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

    def _rank_parts(self) -> list[tuple[np.ndarray, np.ndarray, int]]:
        """Of each level the weights of the ranks, then the constants: one of them has input 1."""
        if not self._hears_ranks:
            return []
        bias, (levels, _, hidden) = self._get("ranks.bias"), self._get("ranks.weight").shape
        require("ranks.bias", bias.shape == (levels, RANKS_MAX, hidden) and bias.dtype == np.int32)
        constants = bias.reshape(levels * RANKS_MAX, hidden), np.full(hidden, BIAS_BITS), 1
        return [*(self._part("ranks", LIMIT, index) for index in range(levels)), constants]

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


class LevelState:
    """What the network knows of one level, pass by pass and group by group.

    In each of the eight passes, call :meth:`logits` and then :meth:`observe`
    for the first group, and again for the second.

    Attributes:
        groups: the nodes of both groups.
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
        present, described = network.near.weights
        near = np.zeros((count + 1, present.shape[1]), dtype=np.uint8)
        constant = statistics.astype(np.float32) @ described + network.near.offset
        for block in node_blocks(count):
            around = (self._neighbors[block] < count).astype(np.float32)
            near[block] = activate(around @ present + constant)
        wide = np.zeros((count + 1, network.wide.weights[0].shape[1]), dtype=np.uint8)
        for block in node_blocks(count):
            sums = gathered(near, self._neighbors[block]) @ network.wide.weights[0]
            wide[block] = activate(sums + network.wide.offset)
        for block in node_blocks(count):
            np.matmul(
                gathered(wide, self._neighbors[block]), network.hidden[0].weights[0], out=self._sums[block]
            )
        if ranks is not None and ranks.level in network.ranks and ranks.symbols.shape[1]:
            self._hear_ranks(ranks)

    def _hear_ranks(self, ranks: NodeRanks) -> None:
        count, sent = len(self._sums), min(ranks.symbols.shape[1], RANKS_MAX)
        # The ranks of a node are gathered as one word, of 1, 2 or 4 bytes.
        width = 1 << (sent - 1).bit_length()
        table = np.zeros((count + 1, width), dtype=np.int8)
        table[:count, :sent] = ranks.symbols[:, :sent]
        words = table.view(f"u{width}")[:, 0]
        weight, constants = self._network.ranks[ranks.level]
        weight = weight.reshape(KERNEL, RANKS_MAX, -1)[:, :width].reshape(KERNEL * width, -1)
        for block in node_blocks(count):
            around = np.take(words, self._neighbors[block].astype(np.intp)).view(np.int8)
            self._sums[block] += around.astype(np.float32) @ weight + constants[sent - 1]

    def logits(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Nodes and their logits, integers in float64 (b,), of the current group, block by block."""
        if self._group == 0:
            self._send_messages()
        else:
            self._hear_first_group()
        net, j = self._network, self._pass
        _, around = net.mixed[j].weights
        group = self.groups[self._group]
        for nodes in node_blocks(group.stop, group.start):
            sums = gathered(self._message, self._neighbors[nodes]) @ around
            sums += self._own[nodes]
            deep = activate(activate(sums) @ net.deep[j].weights[0] + net.deep[j].offset)
            logit = np.floor((deep @ net.logit[j].weights[0])[:, 0] + net.logit[j].offset)
            yield nodes, np.clip(logit, -LOGIT_MAX, LOGIT_MAX).astype(np.float64)

    def _send_messages(self) -> None:
        net, j = self._network, self._pass
        own, _ = net.mixed[j].weights
        both = np.concatenate([net.message[j].weights[0], own], axis=1)
        for block in node_blocks(len(self._sums)):
            sums = activate(self._sums[block] + net.hidden[j].offset) @ both
            self._message[block] = activate(sums[:, :MESSAGE] + net.message[j].offset)
            np.add(sums[:, MESSAGE:], net.mixed[j].offset, out=self._own[block])

    def _hear_first_group(self) -> None:
        net, j = self._network, self._pass
        own, _ = net.mixed[j].weights
        for nodes in node_blocks(self.groups[1].stop, self.groups[1].start):
            sums = self._bits_around(nodes) @ net.second[j].weights[-1]
            sums += self._sums[nodes]
            sums += net.second[j].offset
            self._own[nodes] = activate(sums) @ own + net.mixed[j].offset

    def _bits_around(self, nodes: slice) -> np.ndarray:
        """Known bits of this pass's octant around nodes, float32 (b, 27); 0 where unknown."""
        return np.take(self._bits, self._neighbors[nodes].astype(np.intp)).astype(np.float32)

    def observe(self, bits: np.ndarray) -> None:
        """Take in the bits, uint8, of the current group and octant, and go on to what comes next."""
        self._bits[self.groups[self._group]] = bits
        if self._group == 0:
            self._group = 1
            return
        self._pass, self._group = self._pass + 1, 0
        if self._pass < PASSES:
            weight = self._network.hidden[self._pass].weights[self._pass]
            for block in node_blocks(len(self._sums)):
                self._sums[block] += self._bits_around(block) @ weight
        self._bits[:] = 0
