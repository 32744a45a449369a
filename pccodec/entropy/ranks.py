"""Coder of the latent ranks: one integer a node, with static tables counted on training clouds.

A table is chosen by what both sides know: how active the node's earlier ranks
are and how active its neighbourhood was in the rank before (for the first rank:
how many neighbours there are). Only integers reach the coder.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pccodec.entropy.rangecoder import PRECISION, RangeDecoder, RangeEncoder
from pccodec.model.config import LIMIT

SYMBOLS = 2 * LIMIT + 1
CONTEXTS = 9
_NEIGHBOR_BINS = (11, 16)
_ACTIVITY_BINS = (1, 4)


def contexts(neighbors: np.ndarray, earlier: np.ndarray) -> np.ndarray:
    """Table index of each node for its next rank.

    Args:
        neighbors: int32 (n, 27), the neighbour map.
        earlier: int8 (n, k), the ranks coded before, k ≥ 0.

    Returns:
        int32 (n,) in 0…CONTEXTS-1.
    """
    count = len(neighbors)
    if earlier.shape[1] == 0:
        degree = (neighbors < count).sum(axis=1)
        return np.digitize(degree, _NEIGHBOR_BINS).astype(np.int32)
    own = np.minimum(np.abs(earlier).sum(axis=1, dtype=np.int64), 2)
    last = np.append(np.abs(earlier[:, -1]), np.int8(0))
    around = np.take(last, neighbors).sum(axis=1, dtype=np.int64)
    return (3 * own + np.digitize(around, _ACTIVITY_BINS)).astype(np.int32)


def tables_from_counts(counts: np.ndarray) -> np.ndarray:
    """Frequency tables from how often each symbol was seen.

    Args:
        counts: (…, SYMBOLS), not negative.

    Returns:
        uint32 of the same shape; rows sum to ``2**PRECISION`` and every entry is ≥ 1.
    """
    total = 1 << PRECISION
    smooth = counts.astype(np.float64) + 0.02 + 0.5 * (np.abs(np.arange(SYMBOLS) - LIMIT) <= 1)
    share = smooth / smooth.sum(axis=-1, keepdims=True)
    tables = 1 + np.floor(share * (total - SYMBOLS)).astype(np.int64)
    rest = total - tables.sum(axis=-1)
    np.put_along_axis(
        tables,
        tables.argmax(axis=-1)[..., None],
        tables.max(axis=-1, keepdims=True) + rest[..., None],
        axis=-1,
    )
    return tables.astype(np.uint32)


@dataclass(frozen=True)
class RankCoder:
    """Codes the ranks of one level.

    Attributes:
        tables: uint32 (K, CONTEXTS, SYMBOLS), a set of tables for each rank.
    """

    tables: np.ndarray

    @property
    def ranks(self) -> int:
        """K, the number of ranks that have tables."""
        return len(self.tables)

    def encode(self, neighbors: np.ndarray, earlier: np.ndarray, symbols: np.ndarray) -> bytes:
        """Layer ``R_{l,k+1}``: symbols int8 (n,) in -LIMIT…LIMIT after ranks int8 (n, k)."""
        encoder = RangeEncoder()
        rows = contexts(neighbors, earlier)
        encoder.encode_symbols(symbols.astype(np.int32) + LIMIT, rows, self.tables[earlier.shape[1]])
        return encoder.finish()

    def decode(self, neighbors: np.ndarray, earlier: np.ndarray, data: bytes, complete: bool) -> np.ndarray:
        """Symbols int8 (m,) of the layer: m = n, or fewer if ``data`` is only its beginning.

        Raises:
            DamagedError: if a complete layer holds what no encoder writes.
        """
        decoder = RangeDecoder(data, complete)
        decoded = decoder.decode_symbols(contexts(neighbors, earlier), self.tables[earlier.shape[1]])
        return (decoded - LIMIT).astype(np.int8)
