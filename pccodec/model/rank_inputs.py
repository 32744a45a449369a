"""Latent ranks as inputs of the geometry layers' network: what they add to its sums."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pccodec.sparse.neighbors import KERNEL

RANKS_MAX = 4
"""Latent ranks of a level that the network hears; later ones tell it nothing."""


@dataclass(frozen=True)
class NodeRanks:
    """Latent ranks of the nodes of ``X_level``: int8 (n, K), in the order of the nodes."""

    level: int
    symbols: np.ndarray


@dataclass(frozen=True)
class RankWeights:
    """How the ranks of a level are heard, fp32.

    Attributes:
        near, wide: (RANKS_MAX, C), of a node's own ranks.
        sums: (27 RANKS_MAX, H), convolution.
        constants: (RANKS_MAX, H), one for each number of ranks.
    """

    near: np.ndarray
    wide: np.ndarray
    sums: np.ndarray
    constants: np.ndarray


class HeardRanks:
    """Ranks of a level's nodes and what they add to the layers.

    Args:
        weights: those of the level.
        symbols: int8 (n, K), K ≥ 1.
    """

    def __init__(self, weights: RankWeights, symbols: np.ndarray) -> None:
        count, sent = len(symbols), min(symbols.shape[1], RANKS_MAX)
        # The ranks of a node are gathered as one word, of 1, 2 or 4 bytes.
        width = 1 << (sent - 1).bit_length()
        self._table = np.zeros((count + 1, width), dtype=np.int8)
        self._table[:count, :sent] = symbols[:, :sent]
        self._words = self._table.view(f"u{width}")[:, 0]
        self._near, self._wide = weights.near[:width], weights.wide[:width]
        sums = weights.sums.reshape(KERNEL, RANKS_MAX, -1)[:, :width]
        self._sums, self._constant = sums.reshape(KERNEL * width, -1), weights.constants[sent - 1]

    def near(self, block: slice) -> np.ndarray:
        """Addend (b, C) of near at the nodes of a block."""
        return self._table[block].astype(np.float32) @ self._near

    def wide(self, block: slice) -> np.ndarray:
        """Addend (b, C) of wide at the nodes of a block."""
        return self._table[block].astype(np.float32) @ self._wide

    def sums(self, neighbors: np.ndarray) -> np.ndarray:
        """Addend (b, H) of sums at nodes with the given neighbours (b, 27)."""
        around = np.take(self._words, neighbors.astype(np.intp)).view(np.int8)
        return around.astype(np.float32) @ self._sums + self._constant
