"""Parts of the integer networks that upsample: a feature stream a node, and what is added to it.

The stream is int16 in steps of ``2**-STREAM_BITS``; an activation has 7 bits and its own step,
``2**-bits``; logits are in steps of ``1/LOGIT_UNIT`` nat. Everything is exact integer arithmetic
(:mod:`pccodec.sparse.integer`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pccodec.model.probability import LOGIT_MAX
from pccodec.sparse.integer import (
    ACTIVATION_MAX,
    ACTIVATION_UNIT,
    ExactSum,
    activate,
    gathered,
    node_blocks,
    require,
)
from pccodec.sparse.neighbors import KERNEL

STREAM_BITS = 8
STREAM_MAX = 32767
CONDITIONS = 4
"""What every node of a level is told of the cloud (:func:`pccodec.model.synthesis.conditions`)."""
CONDITION_MAX = 127
CONDITION_UNIT = 16
"""Condition 16 stands for 1.0 in the float twin."""

TENSOR_PREFIX = "synthesis."

_FINE = STREAM_BITS - (ACTIVATION_UNIT.bit_length() - 1)
"""A step of an activation is ``2**_FINE`` steps of the stream."""


@dataclass(frozen=True)
class Activation:
    """Stream to activations: ReLU, steps of ``2**-bits``, at most ACTIVATION_MAX of them."""

    bits: int

    def __call__(self, stream: np.ndarray) -> np.ndarray:
        """Stream int16 (n, C) to uint8 (n, C)."""
        shift = STREAM_BITS - self.bits
        # Half a step beyond the largest value of the stream still fits 16 bits without a sign.
        found = np.maximum(stream, 0).view(np.uint16)
        found += np.uint16(1 << shift >> 1)
        found >>= np.uint16(shift)
        return np.minimum(found, ACTIVATION_MAX, out=found).astype(np.uint8)


def steps(sums: np.ndarray) -> np.ndarray:
    """Sums of :meth:`Tensors.stream_sums`, half a step included, to steps of the stream; in place."""
    np.floor(sums, out=sums)
    return np.clip(sums, -STREAM_MAX, STREAM_MAX, out=sums)


def add(stream: np.ndarray, sums: np.ndarray) -> None:
    """Add sums, as :func:`steps` takes them, to the stream, in place."""
    total = steps(sums)
    total += stream
    stream[:] = np.clip(total, -STREAM_MAX, STREAM_MAX, out=total)


class Tensors:
    """Tensors under a prefix, checked as they are taken."""

    def __init__(self, tensors: Mapping[str, np.ndarray], prefix: str) -> None:
        self._tensors, self.prefix = tensors, prefix

    def __getitem__(self, name: str) -> np.ndarray:
        require(self.prefix + name, self.prefix + name in self._tensors)
        return self._tensors[self.prefix + name]

    def part(self, name: str, largest: int, inputs: int, outputs: int) -> tuple[np.ndarray, np.ndarray, int]:
        """Weight (inputs, outputs), shift (outputs,), and the largest absolute input."""
        weight, shift = self[name + ".weight"], self[name + ".shift"]
        require(self.prefix + name, weight.shape == (inputs, outputs) and weight.dtype == np.int8)
        require(self.prefix + name, shift.shape == (outputs,) and shift.dtype == np.int8)
        return weight, shift, largest

    def sum(self, name: str, inputs: int, outputs: int) -> ExactSum:
        """A sum of activations with its own bias."""
        return ExactSum(
            self.prefix + name, [self.part(name, ACTIVATION_MAX, inputs, outputs)], self.bias(name, outputs)
        )

    def stream_sum(self, name: str, inputs: int, outputs: int) -> ExactSum:
        """The same in steps of the stream."""
        return self.stream_sums([self.part(name, ACTIVATION_MAX, inputs, outputs)], name, outputs)

    def stream_sums(
        self, parts: list[tuple[np.ndarray, np.ndarray, int]], bias: str, outputs: int
    ) -> ExactSum:
        """A sum of several parts, with the bias of one of them, in steps of the stream."""
        return ExactSum(self.prefix + bias, parts, self.bias(bias, outputs), fine=_FINE)

    def bias(self, name: str, outputs: int) -> np.ndarray:
        """int64 (outputs,)."""
        bias = self[name + ".bias"]
        require(self.prefix + name, bias.shape == (outputs,) and bias.dtype == np.int32)
        return bias.astype(np.int64)

    def activation(self, name: str) -> Activation:
        """An activation of the stream."""
        bits = self[name + ".bits"]
        require(self.prefix + name, bits.size == 1 and 0 <= bits.item() <= STREAM_BITS)
        return Activation(int(bits.item()))


class Residual:
    """Adds ``conv(act(conv(act(stream))))`` to the stream.

    Args:
        tensors: of the network.
        name: of the block.
        channels: of the stream.
    """

    def __init__(self, tensors: Tensors, name: str, channels: int) -> None:
        self._activation = tensors.activation(f"{name}.enter")
        self._first = tensors.sum(f"{name}.first", KERNEL * channels, channels)
        self._second = tensors.stream_sum(f"{name}.second", KERNEL * channels, channels)

    def __call__(self, stream: np.ndarray, neighbors: np.ndarray) -> None:
        """Stream int16 (n, C), changed in place, over a map int32 (n, 27)."""
        table = np.zeros((len(stream) + 1, stream.shape[1]), dtype=np.uint8)
        for nodes in node_blocks(len(stream)):
            table[nodes] = self._activation(stream[nodes])
        inner = np.zeros_like(table)
        for nodes in node_blocks(len(stream), channels=stream.shape[1]):
            sums = self._first.times(gathered(table, neighbors[nodes]))
            inner[nodes] = activate(sums + self._first.offset)
        add_around(stream, inner, neighbors, self._second)


class Message:
    """Adds ``conv(act(sum(act(stream))))`` to the stream, the sum being one of few channels.

    Args:
        tensors: of the network.
        name: of the block.
        channels: of the stream.
        inner: channels that neighbours hear.
    """

    def __init__(self, tensors: Tensors, name: str, channels: int, inner: int) -> None:
        self._activation = tensors.activation(f"{name}.enter")
        self._first = tensors.sum(f"{name}.first", channels, inner)
        self._second = tensors.stream_sum(f"{name}.second", KERNEL * inner, channels)

    def __call__(self, stream: np.ndarray, neighbors: np.ndarray) -> None:
        """Stream int16 (n, C), changed in place, over a map int32 (n, 27)."""
        first = self._first
        inner = np.zeros((len(stream) + 1, len(first.offset)), dtype=np.uint8)
        for nodes in node_blocks(len(stream)):
            inner[nodes] = activate(first.times(self._activation(stream[nodes])) + first.offset)
        add_around(stream, inner, neighbors, self._second)


def add_around(stream: np.ndarray, table: np.ndarray, neighbors: np.ndarray, sums: ExactSum) -> None:
    """Add a 3x3x3 convolution to the stream int16 (n, C), in place.

    Args:
        stream: the stream.
        table: activations uint8 (n + 1, C'), the last of them 0.
        neighbors: int32 (n, 27).
        sums: of the convolution.
    """
    for nodes in node_blocks(len(stream), channels=table.shape[1]):
        add(stream[nodes], sums.times(gathered(table, neighbors[nodes])) + sums.offset)


class Entrance:
    """What a node is told before anything else: which of its neighbours exist, and the conditions.

    Args:
        tensors: of the network.
        channels: of the stream.
    """

    def __init__(self, tensors: Tensors, channels: int) -> None:
        self._channels = channels
        parts = [
            tensors.part("occupancy", 1, KERNEL, channels),
            tensors.part("conditions", CONDITION_MAX, CONDITIONS, channels),
        ]
        self._sums = tensors.stream_sums(parts, "occupancy", channels)

    def __call__(self, neighbors: np.ndarray, given: np.ndarray, inherited: np.ndarray | None) -> np.ndarray:
        """Stream int16 (n, C), as :meth:`pccodec.model.synthesis.LevelNetwork.embed` begins it."""
        count = len(neighbors)
        _, told = self._sums.weights
        constant = given.astype(np.float32) @ told + self._sums.offset
        stream = np.zeros((count, self._channels), dtype=np.int16) if inherited is None else inherited.copy()
        for nodes in node_blocks(count):
            add(stream[nodes], self._sums.times((neighbors[nodes] < count).view(np.uint8)) + constant)
        return stream


class Descent:
    """From a node to what its children inherit: one sum an octant.

    Args:
        tensors: of the network.
        inputs: channels of the parents' activations.
        outputs: channels of the children's stream.
    """

    def __init__(self, tensors: Tensors, inputs: int, outputs: int) -> None:
        self._outputs = outputs
        self._sums = [tensors.stream_sum(f"descend.{octant}", inputs, outputs) for octant in range(8)]

    def __call__(self, features: np.ndarray, node: np.ndarray, octant: np.ndarray) -> np.ndarray:
        """Stream int16 (k, C') of children, given activations uint8 (n, C) and their parents' index and
        octant, int64 (k,)."""
        inherited = np.zeros((len(node), self._outputs), dtype=np.int16)
        for o, sums in enumerate(self._sums):
            mine = np.flatnonzero(octant == o)
            for part in node_blocks(len(mine)):
                rows = features[node[mine[part]]]
                inherited[mine[part]] = steps(sums.times(rows) + sums.offset)
        return inherited


class ChildLogits:
    """Occupancy logits of the children: ``sum(act(sum(act(stream))))``.

    Args:
        tensors: of the network.
        channels: of the stream.
    """

    def __init__(self, tensors: Tensors, channels: int) -> None:
        self._leave = tensors.activation("leave")
        self._hidden = tensors.sum("hidden", channels, 2 * channels)
        self._logits = tensors.sum("logits", 2 * channels, 8)

    def __call__(self, stream: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logits int16 (n, 8) in 1/LOGIT_UNIT nat, and activations uint8 (n, C)."""
        features = np.empty(stream.shape, dtype=np.uint8)
        logits = np.empty((len(stream), 8), dtype=np.int16)
        for nodes in node_blocks(len(stream)):
            features[nodes] = self._leave(stream[nodes])
            hidden = activate(self._hidden.times(features[nodes]) + self._hidden.offset)
            found = np.floor(self._logits.times(hidden) + self._logits.offset)
            logits[nodes] = np.clip(found, -LOGIT_MAX, LOGIT_MAX)
        return logits, features
