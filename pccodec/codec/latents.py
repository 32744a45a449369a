"""Which latent ranks the encoder sends, and their payloads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pccodec.codec.expected_points import is_sparse
from pccodec.entropy.ranks import RankCoder
from pccodec.model.config import LATENT_LEVELS
from pccodec.model.latents import LevelRanks, latent_ranks
from pccodec.model.store import Model
from pccodec.voxels.octree import Octree

SURFACE_GROWTH = 2.3
"""Children a node below which a level is too sparse for ranks: there is no surface to describe."""


MARGIN = 3.0
"""How much more than the geometry layer a byte of ranks must tell. A cut geometry layer raises quality
nearly in proportion to its bytes, and ranks save it only a seventh of theirs, so an even trade is a loss."""


@dataclass(frozen=True)
class RankLayers:
    """Ranks of one level: symbols int8 (n, K) and the payload of each of the K layers."""

    symbols: np.ndarray
    payloads: list[bytes]


def rank_layers(
    tree: Octree,
    maps: list[np.ndarray],
    model: Model,
    limits: tuple[int, int, int] | None,
    geometry_bytes: list[int],
) -> dict[int, RankLayers]:
    """Latent ranks to send, by level; levels without ranks are missing. Sparse clouds have none.

    Left to choose, the encoder sends the ranks of a level, coarse to fine, while they tell
    ``MARGIN`` times as much of the children's bits per byte as the geometry layer that follows.

    Args:
        tree: the cloud's octree.
        maps: neighbour maps by level.
        model: the trained model.
        limits: most ranks at levels 3, 2 and 1; None lets the encoder choose.
        geometry_bytes: size of each layer ``G_l``, by level.
    """
    counts = [len(codes) for codes in tree.codes]
    if is_sparse(counts):
        # The decoder has no use for ranks there.
        return {}
    wanted = {}
    for level, limit in zip(LATENT_LEVELS, limits or (None,) * len(LATENT_LEVELS), strict=True):
        ranks = model.config.ranks[level] if limit is None else min(limit, model.config.ranks[level])
        dense = level < tree.depth and counts[level - 1] >= SURFACE_GROWTH * counts[level]
        if ranks and level < tree.depth and (dense or limit is not None):
            wanted[level] = ranks
    layers: dict[int, RankLayers] = {}

    def accept(offer: LevelRanks) -> bool:
        coder = RankCoder(model.rank_tables[offer.level])
        payloads = [
            coder.encode(maps[offer.level], offer.symbols[:, :k], offer.symbols[:, k])
            for k in range(offer.symbols.shape[1])
        ]
        told = offer.open_bits - offer.left_bits
        size = MARGIN * sum(map(len, payloads))
        pays = told * geometry_bytes[offer.level - 1] > offer.open_bits * size
        if limits is not None or pays:
            layers[offer.level] = RankLayers(offer.symbols, payloads)
        return offer.level in layers

    if wanted:
        latent_ranks(model.analysis, model.synthesis, tree, maps, wanted, accept)
    return layers
