"""The encoder's side of the latent ranks: analysis, rounding, and which ranks are worth their bytes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pccodec.entropy.ranks import LIMIT, RankCoder
from pccodec.model.analysis import descriptor
from pccodec.model.config import LATENT_LEVELS
from pccodec.model.store import Model
from pccodec.model.upsampling import Known, Latent, Upsampler, start_level
from pccodec.voxels.octree import Octree, unpack

SPARSE_GROWTH = 2.3
"""Children a node below which a level is too sparse for ranks: there is no surface to describe."""


@dataclass(frozen=True)
class RankLayers:
    """Ranks of one level: symbols int8 (n, K) and the payload of each of the K layers."""

    symbols: np.ndarray
    payloads: list[bytes]


def _child_bits(logits: Tensor, occupancy: np.ndarray) -> float:
    """Bits that the true children cost under the marginal probabilities of the logits."""
    target = torch.from_numpy(unpack(occupancy).astype(np.float32))
    return float(functional.binary_cross_entropy_with_logits(logits, target, reduction="sum")) / float(np.log(2))


def analyse(
    tree: Octree,
    maps: list[np.ndarray],
    model: Model,
    limits: tuple[int, int, int] | None,
    geometry_bytes: list[int],
) -> dict[int, RankLayers]:
    """Latent ranks of a cloud, level by level.

    Args:
        tree: the cloud's octree.
        maps: neighbour maps by level.
        model: the trained model.
        limits: most ranks at levels 3, 2 and 1; None lets the encoder choose.
        geometry_bytes: size of each layer ``G_l``, by level.

    Left to choose, the encoder sends the ranks of a level if they tell more of
    the children's bits per byte than the geometry layer that follows would.

    Returns:
        The ranks to send by level; levels without ranks are missing.
    """
    with torch.inference_mode():
        return _analyse(tree, maps, model, limits, geometry_bytes)


def _analyse(
    tree: Octree,
    maps: list[np.ndarray],
    model: Model,
    limits: tuple[int, int, int] | None,
    geometry_bytes: list[int],
) -> dict[int, RankLayers]:
    counts = {level: len(codes) for level, codes in enumerate(tree.codes)}
    wanted = dict(zip(LATENT_LEVELS, limits or (99, 99, 99), strict=True))
    wanted = {level: min(k, model.config.ranks[level]) for level, k in wanted.items() if level < tree.depth}
    if limits is None:
        wanted = {l: k for l, k in wanted.items() if counts[l - 1] >= SPARSE_GROWTH * counts[l]}
    wanted = {level: k for level, k in wanted.items() if k}
    chosen: dict[int, RankLayers] = {}
    if not wanted:
        return chosen
    network = model.autoencoder
    upsampler = Upsampler(network.synthesis)
    levels = range(min(wanted), tree.depth + 1)
    known = Known({l: tree.codes[l] for l in levels}, {l: maps[l] for l in levels}, counts)
    inherited: Tensor | None = None
    for level in range(start_level(known), min(wanted) - 1, -1):
        context = upsampler.context(known, level, inherited)
        neighbors = torch.from_numpy(maps[level])
        without, features = upsampler.predict(context, neighbors, level, None)
        ranks = wanted.get(level, 0)
        if ranks:
            shape = torch.from_numpy(descriptor(tree, level))
            y = network.analysis.level(level)(shape, context, neighbors)
            symbols = y.round().clamp(-LIMIT, LIMIT).to(torch.int8).numpy()[:, :ranks]
            coder = RankCoder(model.rank_tables[level])
            payloads = [coder.encode(maps[level], symbols[:, :k], symbols[:, k]) for k in range(ranks)]
            latent = Latent(symbols, np.full(counts[level], ranks, dtype=np.int64))
            logits, with_ranks = upsampler.predict(context, neighbors, level, latent)
            open_bits = _child_bits(without, tree.occupancy[level - 1])
            told = open_bits - _child_bits(logits, tree.occupancy[level - 1])
            size = sum(map(len, payloads))
            if limits is not None or told * geometry_bytes[level - 1] > open_bits * size:
                chosen[level] = RankLayers(symbols, payloads)
                features = with_ranks
        if level > min(wanted):
            inherited = upsampler.inherit(level, features, tree.occupancy[level - 1])
    return chosen
