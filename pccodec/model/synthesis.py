"""Integer synthesis transform: from known nodes and the ranks that came to their children.

A level network holds one feature vector a node, the *stream*
(:mod:`pccodec.model.stream`). It looks at the occupied neighbourhood, adds the
latent, mixes, and predicts the 8 children of each node: their occupancy logits
and, for those that are kept, what they inherit. Level ``l`` serves the nodes of
``X_l``, ``l`` = 3, 2, 1:

    stream   = sum(occupied neighbours, conditions) + inherited
    residual: stream + conv(act(conv(act(stream))))        3x3x3 convolutions
    stream   = residual(stream) + sum(ranks, which ranks were sent), then more residuals
    logits   = sum(act(sum(act(stream)))),   inherited by child o = sum_o(act(stream))

Where ``X_1`` was predicted itself, a lighter network takes the place of that of
level 1 (:mod:`pccodec.model.draft`). Everything is exact integer arithmetic. The
float twin that is trained is :class:`pccodec.training.autoencoder.Autoencoder`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pccodec.model.config import LATENT_LEVELS, LIMIT, ModelConfig
from pccodec.model.draft import DraftNetwork
from pccodec.model.stream import (
    CONDITION_MAX,
    CONDITION_UNIT,
    TENSOR_PREFIX,
    ChildLogits,
    Descent,
    Entrance,
    Residual,
    Tensors,
    add,
)
from pccodec.sparse.integer import node_blocks


def _growth(fine: int, coarse: int) -> int:
    """log2 of children per node less 2 (a plane gives 0), in CONDITION_UNIT, rounded down; 0 if unknown."""
    if not (fine and coarse):
        return 0
    # Exact: a float logarithm may differ in its last bit from machine to machine.
    sixteenths = (fine**CONDITION_UNIT // coarse**CONDITION_UNIT).bit_length() - 1
    return max(-CONDITION_MAX, min(CONDITION_MAX, sixteenths - 2 * CONDITION_UNIT))


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
        own = Tensors(tensors, f"{TENSOR_PREFIX}{level}.")
        channels, ranks = config.channels[level], config.ranks[level]
        self.ranks = ranks
        self._enter = Entrance(own, channels)
        self._context = Residual(own, "context", channels)
        parts = [own.part("latent", LIMIT, ranks, channels), own.part("sent", 1, ranks, channels)]
        self._latent = own.stream_sums(parts, "latent", channels)
        self._latent_weight = np.concatenate(self._latent.weights)
        self._mix = [Residual(own, f"mix.{i}", channels) for i in range(config.blocks[level])]
        self._logits = ChildLogits(own, channels)
        below = config.channels.get(level - 1)
        self._descent = Descent(own, channels, below) if below else None

    def embed(self, neighbors: np.ndarray, given: np.ndarray, inherited: np.ndarray | None) -> np.ndarray:
        """Stream int16 (n, C): all that is known about the nodes before the latent.

        Args:
            neighbors: int32 (n, 27).
            given: int64 (CONDITIONS,), see :func:`conditions`.
            inherited: int16 (n, C) from the parents, or None at the first level.
        """
        stream = self._enter(neighbors, given, inherited)
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
            add(stream[nodes], latent[nodes] @ self._latent_weight + self._latent.offset)
        for residual in self._mix:
            residual(stream, neighbors)
        return self._logits(stream)

    def inherit(self, features: np.ndarray, node: np.ndarray, octant: np.ndarray) -> np.ndarray:
        """What children inherit, int16 (k, C'), given their parents' index and octant, int64 (k,)."""
        assert self._descent is not None
        return self._descent(features, node, octant)


class SynthesisNetwork:
    """The level networks of levels 3, 2 and 1, and the one for nodes of ``X_1`` that were predicted.

    Attributes:
        draft: the latter.
    """

    def __init__(self, tensors: Mapping[str, np.ndarray], config: ModelConfig) -> None:
        self._levels = {level: LevelNetwork(tensors, level, config) for level in LATENT_LEVELS}
        self.draft = DraftNetwork(tensors, config)

    def level(self, level: int) -> LevelNetwork:
        """The network of level 3, 2 or 1."""
        return self._levels[level]
