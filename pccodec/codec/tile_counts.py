"""The number of nodes that a tile has at the levels for which the header counts the whole cloud.

The network and the synthesis transform want to know how densely a level is filled. A tile's
counts are its part of the whole cloud's, in proportion to its nodes of the shared level, and the
directory of the first tile layer holds by how much each differs from that:

    n_l = n_above · N_l / N_above · (32 + share_l) / 32     rounded, 1 … N_l

level by level, with N the counts of the whole cloud and n those of the tile; above the first of
these levels stands the shared one. Encoder and decoder use these numbers, not the true ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pccodec.container import Header
from pccodec.container.tiles import SHARE_HIGH, SHARE_LOW

_UNIT = 32


def counted_levels(header: Header) -> range:
    """The levels of a stream of tiles that have shares, coarse to fine."""
    assert header.tiles
    return range(min(header.tiles.shared, len(header.counts)) - 1, -1, -1)


def expected_counts(
    header: Header, shared_nodes: int, tile_nodes: int, shares: Sequence[int] = ()
) -> dict[int, int]:
    """Counts of a tile by level.

    Args:
        header: the stream's header.
        shared_nodes: nodes of the shared level in the whole cloud.
        tile_nodes: those in the tile.
        shares: of the levels of ``counted_levels``; nothing where they are not known.
    """
    counts: dict[int, int] = {}
    above, tile_above = shared_nodes, tile_nodes
    for index, level in enumerate(counted_levels(header)):
        whole = header.counts[level]
        share = shares[index] if shares else 0
        counts[level] = _expected(tile_above, above, whole, share)
        above, tile_above = whole, counts[level]
    return counts


def shares_of(header: Header, shared_nodes: int, tile_counts: Mapping[int, int]) -> tuple[int, ...]:
    """The shares that bring the expected counts of a tile next to the true ones.

    Args:
        header: the stream's header; only its counts and levels are used.
        shared_nodes: nodes of the shared level in the whole cloud.
        tile_counts: the tile's nodes by level, the shared level and those below.
    """
    assert header.tiles
    shares: list[int] = []
    above, tile_above = shared_nodes, tile_counts[header.tiles.shared]
    for level in counted_levels(header):
        whole, true = header.counts[level], tile_counts[level]
        part = tile_above * whole
        share = (2 * _UNIT * true * above + part) // (2 * part) - _UNIT
        # A thirty-second more or less changes nothing, and a stream without any shares is shorter.
        share = max(SHARE_LOW, min(SHARE_HIGH, share)) if abs(share) > 1 else 0
        shares.append(share)
        above, tile_above = whole, _expected(tile_above, above, whole, share)
    return tuple(shares)


def _expected(tile_above: int, above: int, whole: int, share: int) -> int:
    unit = _UNIT * above
    return min(whole, max(1, (2 * tile_above * whole * (_UNIT + share) + unit) // (2 * unit)))
