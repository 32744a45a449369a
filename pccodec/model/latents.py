"""Inference of the analysis transform: the rounded latent ranks of a cloud, level by level."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pccodec.model.analysis import descriptor
from pccodec.model.autoencoder import Autoencoder
from pccodec.model.config import LIMIT
from pccodec.model.upsampling import Known, Latent, Upsampler, start_level
from pccodec.voxels.octree import Octree, unpack


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
    model: Autoencoder,
    tree: Octree,
    maps: list[np.ndarray],
    wanted: Mapping[int, int],
    accept: Callable[[LevelRanks], bool] = lambda _: True,
) -> dict[int, np.ndarray]:
    """Ranks of an octree.

    Args:
        model: the autoencoder.
        tree: one cloud, or a batch of blocks.
        maps: neighbour maps int32 (n, 27) of levels 1 and up, by level.
        wanted: number of ranks by level, 1…K; levels not named have none.
        accept: whether the ranks of a level are sent; after a refusal finer levels, whose
            ranks cost more, are not looked at.

    Returns:
        Accepted symbols, int8 (n, k), by level.
    """
    if not wanted:
        return {}
    with torch.inference_mode():
        return _latent_ranks(model, tree, maps, wanted, accept)


def _latent_ranks(
    model: Autoencoder,
    tree: Octree,
    maps: list[np.ndarray],
    wanted: Mapping[int, int],
    accept: Callable[[LevelRanks], bool],
) -> dict[int, np.ndarray]:
    upsampler = Upsampler(model.synthesis)
    finest, levels = min(wanted), range(min(wanted), tree.depth + 1)
    counts = {level: len(codes) for level, codes in enumerate(tree.codes)}
    known = Known({l: tree.codes[l] for l in levels}, {l: maps[l] for l in levels}, counts)
    chosen: dict[int, np.ndarray] = {}
    inherited: Tensor | None = None
    for level in range(start_level(known), finest - 1, -1):
        neighbors, occupancy = torch.from_numpy(maps[level]), tree.occupancy[level - 1]
        context = upsampler.context(known, level, inherited)
        logits, features = upsampler.predict(context, neighbors, level, None)
        ranks = wanted.get(level, 0)
        if ranks:
            shape = torch.from_numpy(descriptor(tree, level))
            y = model.analysis.level(level)(shape, context, neighbors)
            symbols = y.round().clamp(-LIMIT, LIMIT).to(torch.int8).numpy()[:, :ranks]
            latent = Latent(symbols, np.full(len(symbols), ranks, dtype=np.int64))
            told, with_ranks = upsampler.predict(context, neighbors, level, latent)
            offer = LevelRanks(level, symbols, _child_bits(logits, occupancy), _child_bits(told, occupancy))
            if not accept(offer):
                break
            chosen[level] = symbols
            features = with_ranks
        if level > finest:
            inherited = upsampler.inherit(level, features, occupancy)
    return chosen


def _child_bits(logits: Tensor, occupancy: np.ndarray) -> float:
    target = torch.from_numpy(unpack(occupancy).astype(np.float32))
    nats = functional.binary_cross_entropy_with_logits(logits, target, reduction="sum")
    return float(nats) / float(np.log(2.0))
