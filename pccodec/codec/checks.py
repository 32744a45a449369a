"""What the check value of a geometry layer covers."""

from __future__ import annotations

import numpy as np

from pccodec.container import level_check


def geometry_check(symbols: np.ndarray | None, occupancy: np.ndarray) -> int:
    """Check value 0…255 of ``G_l``: the ranks of level l+1, rank by rank, then the child bits.

    Args:
        symbols: int8 (n, K) of the nodes of ``X_{l+1}``, or None without ranks.
        occupancy: uint8 (n,).
    """
    if symbols is None or symbols.shape[1] == 0:
        return level_check(np.ascontiguousarray(occupancy))
    return level_check(np.ascontiguousarray(symbols.T), np.ascontiguousarray(occupancy))


def layer_check(
    level: int, coarsest: int, codes: np.ndarray, symbols: np.ndarray | None, occupancy: np.ndarray
) -> int:
    """Check value 0…255 of ``G_level``: :func:`geometry_check`, or at the coarsest level over its nodes.

    The nodes follow from all coarser layers, most of which have no check of their own.

    Args:
        level: ``l``.
        coarsest: the coarsest level that has a check value.
        codes: sorted Morton codes of ``X_l``, uint64.
        symbols, occupancy: as of :func:`geometry_check`.
    """
    if level == coarsest:
        return level_check(codes.astype("<u8"))
    return geometry_check(symbols, occupancy)
