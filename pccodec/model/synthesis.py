"""Integer synthesis transform: from known nodes and the ranks that came to their children.

A level network holds one feature vector a node, the *stream*. It looks at the
occupied neighbourhood, adds the latent, mixes, and predicts the 8 children of
each node: their occupancy logits and, for those that are kept, what they
inherit. Level ``l`` serves the nodes of ``X_l``, ``l`` = 3, 2, 1:

    stream   = sum(occupied neighbours, conditions) + inherited
    residual: stream + conv(act(conv(act(stream))))        3x3x3 convolutions
    stream   = residual(stream) + sum(ranks, which ranks were sent), then more residuals
    logits   = sum(act(sum(act(stream)))),   inherited by child o = sum_o(act(stream))

Everything is exact integer arithmetic (:mod:`pccodec.sparse.integer`). The
stream is int16 in steps of ``2**-STREAM_BITS``; an activation has 7 bits and
its own step, ``2**-bits``; logits are in steps of ``1/LOGIT_UNIT`` nat. The
float twin that is trained is :class:`pccodec.training.autoencoder.Autoencoder`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pccodec.model.config import LATENT_LEVELS, LIMIT, ModelConfig
from pccodec.model.occupancy import LOGIT_MAX
from pccodec.sparse.integer import (
    ACTIVATION_MAX,
    ACTIVATION_UNIT,
    ExactSum,
    activate,
    gathered,
    node_blocks,
    require,
    with_absent,
)
from pccodec.sparse.neighbors import KERNEL

STREAM_BITS = 8
STREAM_MAX = 32767
CONDITIONS = 4
"""What every node of a level is told of the cloud (:func:`conditions`)."""
CONDITION_UNIT = 16
"""Condition 16 stands for 1.0 in the float twin."""
TENSOR_PREFIX = "synthesis."

_CONDITION_MAX = 127
_STREAM_UNIT = 1 << STREAM_BITS


def _growth(fine: int, coarse: int) -> int:
    """log2 of children per node less 2 (a plane gives 0), in CONDITION_UNIT, rounded down; 0 if unknown."""
    if not (fine and coarse):
        return 0
    # Exact: a float logarithm may differ in its last bit from machine to machine.
    sixteenths = (fine**CONDITION_UNIT // coarse**CONDITION_UNIT).bit_length() - 1
    return max(-_CONDITION_MAX, min(_CONDITION_MAX, sixteenths - 2 * CONDITION_UNIT))


def conditions(counts: Mapping[int, int], level: int, exact: bool) -> np.ndarray:
    """How densely a level is filled, and whether its nodes can be trusted.

    Args:
        counts: number of nodes by level, as far as known.
        level: ``l``.
        exact: whether the nodes are the true ones; otherwise they were predicted.

    Returns:
        int64 (CONDITIONS,) in CONDITION_UNIT: binary logarithms less 2 of nodes per parent, children
        per node and grandchildren per child, 0 where unknown; and 1 for predicted nodes.
    """
    pairs = [(level, level + 1), (level - 1, level), (level - 2, level - 1)]
    growth = [_growth(counts.get(fine, 0), counts.get(coarse, 0)) for fine, coarse in pairs]
    return np.array([*growth, 0 if exact else CONDITION_UNIT], dtype=np.int64)


@dataclass(frozen=True)
class _Activation:
    """Stream to activations: ReLU, steps of ``2**-bits``, at most ACTIVATION_MAX of them."""

    bits: int

    def __call__(self, stream: np.ndarray) -> np.ndarray:
        """Stream int16 (n, C) to uint8 (n, C)."""
        shift = STREAM_BITS - self.bits
        half = 1 << (shift - 1) if shift else 0
        steps = (np.maximum(stream, 0).astype(np.int32) + half) >> shift
        return np.minimum(steps, ACTIVATION_MAX).astype(np.uint8)


def _steps(sums: np.ndarray) -> np.ndarray:
    """Sums in steps of 1/ACTIVATION_UNIT, half a step included, to steps of the stream; in place."""
    sums -= 0.5
    sums *= _STREAM_UNIT / ACTIVATION_UNIT
    sums += 0.5
    np.floor(sums, out=sums)
    return np.clip(sums, -STREAM_MAX, STREAM_MAX, out=sums)


def _add(stream: np.ndarray, sums: np.ndarray) -> None:
    """Add sums, as :func:`_steps` takes them, to the stream, in place."""
    total = _steps(sums)
    total += stream
    stream[:] = np.clip(total, -STREAM_MAX, STREAM_MAX, out=total)


class _Tensors:
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

    def bias(self, name: str, outputs: int) -> np.ndarray:
        """int64 (outputs,)."""
        bias = self[name + ".bias"]
        require(self.prefix + name, bias.shape == (outputs,) and bias.dtype == np.int32)
        return bias.astype(np.int64)

    def activation(self, name: str) -> _Activation:
        """An activation of the stream."""
        bits = self[name + ".bits"]
        require(self.prefix + name, bits.size == 1 and 0 <= bits.item() <= STREAM_BITS)
        return _Activation(int(bits.item()))


class _Residual:
    """Adds ``conv(act(conv(act(stream))))`` to the stream."""

    def __init__(self, tensors: Mapping[str, np.ndarray], prefix: str, channels: int) -> None:
        own = _Tensors(tensors, prefix)
        self._activation = own.activation("enter")
        self._first = own.sum("first", KERNEL * channels, channels)
        self._second = own.sum("second", KERNEL * channels, channels)

    def __call__(self, stream: np.ndarray, neighbors: np.ndarray) -> None:
        """Stream int16 (n, C), changed in place, over a map int32 (n, 27)."""
        table = with_absent(self._activation(stream))
        inner = np.zeros_like(table)
        for nodes in node_blocks(len(stream), channels=stream.shape[1]):
            sums = gathered(table, neighbors[nodes]) @ self._first.weights[0]
            inner[nodes] = activate(sums + self._first.offset)
        for nodes in node_blocks(len(stream), channels=stream.shape[1]):
            sums = gathered(inner, neighbors[nodes]) @ self._second.weights[0]
            _add(stream[nodes], sums + self._second.offset)


class LevelNetwork:
    """Network of one level; immutable.

    Args:
        tensors: those of a model file.
        level: 3, 2 or 1.
        config: shape of the network.

    Raises:
        ModelError: if tensors are missing, have the wrong shape, or could overflow.
    """

    def __init__(self, tensors: Mapping[str, np.ndarray], level: int, config: ModelConfig) -> None:
        prefix = f"{TENSOR_PREFIX}{level}."
        own = _Tensors(tensors, prefix)
        channels, ranks = config.channels[level], config.ranks[level]
        self.channels, self.ranks = channels, ranks
        self._enter = ExactSum(
            prefix + "occupancy",
            [
                own.part("occupancy", 1, KERNEL, channels),
                own.part("conditions", _CONDITION_MAX, CONDITIONS, channels),
            ],
            own.bias("occupancy", channels),
        )
        self._latent = ExactSum(
            prefix + "latent",
            [own.part("latent", LIMIT, ranks, channels), own.part("sent", 1, ranks, channels)],
            own.bias("latent", channels),
        )
        self._latent_weight = np.concatenate(self._latent.weights)
        self._context = _Residual(tensors, prefix + "context.", channels)
        self._mix = [_Residual(tensors, f"{prefix}mix.{i}.", channels) for i in range(config.blocks[level])]
        self._leave = own.activation("leave")
        self._hidden = own.sum("hidden", channels, 2 * channels)
        self._logits = own.sum("logits", 2 * channels, 8)
        self._descend = [
            own.sum(f"descend.{octant}", channels, config.channels[level - 1])
            for octant in range(8 if level - 1 in config.channels else 0)
        ]

    def embed(self, neighbors: np.ndarray, given: np.ndarray, inherited: np.ndarray | None) -> np.ndarray:
        """Stream int16 (n, C): all that is known about the nodes before the latent.

        Args:
            neighbors: int32 (n, 27).
            given: int64 (CONDITIONS,), see :func:`conditions`.
            inherited: int16 (n, C) from the parents, or None at the first level.
        """
        count = len(neighbors)
        present, told = self._enter.weights
        constant = given.astype(np.float32) @ told + self._enter.offset
        stream = np.zeros((count, self.channels), dtype=np.int16) if inherited is None else inherited.copy()
        for nodes in node_blocks(count):
            around = (neighbors[nodes] < count).astype(np.float32)
            _add(stream[nodes], around @ present + constant)
        self._context(stream, neighbors)
        return stream

    def predict(
        self, context: np.ndarray, neighbors: np.ndarray, symbols: np.ndarray, active: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """From context to predictions.

        Args:
            context: stream int16 (n, C) from :meth:`embed`.
            neighbors: int32 (n, 27).
            symbols: int8 (n, k), k ≤ K, ranks in rank order.
            active: int64 (n,), how many of them count for each node; the others are masked.

        Returns:
            Occupancy logits of the children, int16 (n, 8) in 1/LOGIT_UNIT nat, and
            activations uint8 (n, C), from which the children inherit.
        """
        stream = context.copy()
        sent = np.arange(self.ranks) < active[:, None]
        known = np.zeros((len(stream), self.ranks), dtype=np.float32)
        known[:, : symbols.shape[1]] = symbols
        latent = np.concatenate([known * sent, sent], axis=1, dtype=np.float32)
        for nodes in node_blocks(len(stream)):
            _add(stream[nodes], latent[nodes] @ self._latent_weight + self._latent.offset)
        for residual in self._mix:
            residual(stream, neighbors)
        features = self._leave(stream)
        logits = np.empty((len(stream), 8), dtype=np.int16)
        for nodes in node_blocks(len(stream)):
            hidden = activate(
                features[nodes].astype(np.float32) @ self._hidden.weights[0] + self._hidden.offset
            )
            found = np.floor(hidden @ self._logits.weights[0] + self._logits.offset)
            logits[nodes] = np.clip(found, -LOGIT_MAX, LOGIT_MAX)
        return logits, features

    def inherit(self, features: np.ndarray, node: np.ndarray, octant: np.ndarray) -> np.ndarray:
        """What children inherit, int16 (k, C'), given their parents' index and octant, int64 (k,)."""
        inherited = np.zeros((len(node), self._descend[0].offset.shape[0]), dtype=np.int16)
        for o, sums in enumerate(self._descend):
            mine = np.flatnonzero(octant == o)
            for part in node_blocks(len(mine)):
                rows = features[node[mine[part]]].astype(np.float32)
                inherited[mine[part]] = _steps(rows @ sums.weights[0] + sums.offset)
        return inherited


class SynthesisNetwork:
    """The level networks of levels 3, 2 and 1."""

    def __init__(self, tensors: Mapping[str, np.ndarray], config: ModelConfig) -> None:
        self._levels = {level: LevelNetwork(tensors, level, config) for level in LATENT_LEVELS}

    def level(self, level: int) -> LevelNetwork:
        """The network of level 3, 2 or 1."""
        return self._levels[level]
