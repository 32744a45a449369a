"""What the check value of a geometry layer covers."""

from __future__ import annotations

import numpy as np

from pccodec.container import level_check
from pccodec.container.layout import CHECKED_LEVEL


def geometry_check(symbols: np.ndarray | None, occupancy: np.ndarray) -> int:
    """Check value 0…255 of ``G_l``: the ranks of level l+1, rank by rank, then the child bits.

    Args:
        symbols: int8 (n, K) of the nodes of ``X_{l+1}``, or None without ranks.
        occupancy: uint8 (n,).
    """
    if symbols is None or symbols.shape[1] == 0:
        return level_check(np.ascontiguousarray(occupancy))
    return level_check(np.ascontiguousarray(symbols.T), np.ascontiguousarray(occupancy))


def coarsest_check(codes: np.ndarray) -> int:
    """Check value 0…255 of the coarsest checked level, from its nodes: it covers all coarser layers too.

    Args:
        codes: sorted Morton codes, uint64 (n,).
    """
    return level_check(codes.astype("<u8"))


def is_coarsest(level: int, depth: int) -> bool:
    """Whether ``G_level`` is the coarsest layer with a check value."""
    return level == min(CHECKED_LEVEL, depth - 1)
