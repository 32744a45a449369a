"""The latent ranks of a cloud, level by level: analysis in the synthesis transform's context."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from pccodec.model.analysis import AnalysisNetwork, descriptor
from pccodec.model.config import LATENT_LEVELS
from pccodec.model.probability import LOGIT_UNIT
from pccodec.model.synthesis import SynthesisNetwork, conditions
from pccodec.voxels.octree import Octree, children, unpack


@dataclass(frozen=True)
class LevelRanks:
    """Ranks of one level, offered before the levels below are looked at.

    Attributes:
        level: 3, 2 or 1.
        symbols: int8 (n, K).
        open_bits: bits that the children cost under the marginal probabilities without the ranks.
        left_bits: the same with the ranks.
    """

    level: int
    symbols: np.ndarray
    open_bits: float
    left_bits: float


def latent_ranks(
    analysis: AnalysisNetwork,
    synthesis: SynthesisNetwork,
    tree: Octree,
    maps: list[np.ndarray],
    wanted: Mapping[int, int],
    accept: Callable[[LevelRanks], bool] = lambda _: True,
) -> dict[int, np.ndarray]:
    """Ranks of an octree.

    Args:
        analysis, synthesis: the networks of a model.
        tree: one cloud, or a batch of blocks.
        maps: neighbour maps int32 (n, 27) of levels 1 and up, by level.
        wanted: number of ranks by level, 1…K; levels not named have none.
        accept: whether the ranks of a level are sent; after a refusal finer levels, whose
            ranks cost more, are not looked at.

    Returns:
        Accepted symbols, int8 (n, k), by level.
    """
    chosen: dict[int, np.ndarray] = {}
    if not wanted:
        return chosen
    counts = {level: len(codes) for level, codes in enumerate(tree.codes)}
    inherited: np.ndarray | None = None
    for level in range(min(LATENT_LEVELS[0], tree.depth), min(wanted) - 1, -1):
        network, neighbors, occupancy = synthesis.level(level), maps[level], tree.occupancy[level - 1]
        context = network.embed(neighbors, conditions(counts, level, exact=True), inherited)
        ranks = wanted.get(level, 0)
        none = np.zeros(len(context), dtype=np.int64)
        logits, features = network.predict(context, neighbors, np.zeros((len(none), 0), np.int8), none)
        if ranks:
            symbols = analysis.level(level)(descriptor(tree, level), context, neighbors)[:, :ranks]
            told, with_ranks = network.predict(context, neighbors, symbols, none + ranks)
            offer = LevelRanks(level, symbols, _child_bits(logits, occupancy), _child_bits(told, occupancy))
            if not accept(offer):
                break
            chosen[level] = symbols
            features = with_ranks
        if level > min(wanted):
            inherited = network.inherit(features, *children(occupancy))
    return chosen


def _child_bits(logits: np.ndarray, occupancy: np.ndarray) -> float:
    """Bits that the children cost under independent probabilities with these logits."""
    margin = np.where(unpack(occupancy), logits, -logits) / LOGIT_UNIT
    return float(np.logaddexp(0.0, -margin).sum() / np.log(2.0))
