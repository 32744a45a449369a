"""Analysis transform: the latent of a level from the true geometry below it.

It reads explicit shape descriptors (which cells two levels below a node are
filled, and how full) beside the synthesis transform's own context features, so
that the latent holds what the context cannot tell: the innovation. It runs in
the encoder alone and may be as deep as one likes.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from pccodec.model.config import LATENT_LEVELS, ModelConfig
from pccodec.model.layers import Linear, ResidualBlock
from pccodec.voxels import octree

DESCRIPTOR = {3: 64, 2: 64, 1: 8}
"""Entries of the shape descriptor by level."""


def descriptor(tree: octree.Octree, level: int) -> np.ndarray:
    """Shape descriptors, float32 (n, d), of the nodes of ``X_level``.

    Level 3: how full each of the 4x4x4 cells of stride 2 is, 0…1. Level 2: which
    of the 4x4x4 voxels are occupied. Level 1: which of the 8 voxels are.
    """
    if level == 1:
        return octree.unpack(tree.occupancy[0]).astype(np.float32)
    cells = tree.codes[level - 2]
    filled: np.ndarray | float = 1.0
    if level == 3:
        filled = octree.POPCOUNT[tree.occupancy[0]] / 8.0
    node = np.searchsorted(tree.codes[level], cells >> np.uint64(6))
    out = np.zeros((len(tree.codes[level]), 64), dtype=np.float32)
    out[node, (cells & np.uint64(63)).astype(np.int64)] = filled
    return out


class LevelAnalysis(nn.Module):
    """Latent of one level: descriptors (n, d) and context (n, C) to y (n, K)."""

    def __init__(self, inputs: int, context: int, ranks: int, config: ModelConfig) -> None:
        super().__init__()
        width = config.analysis_channels
        self.shape = nn.Sequential(Linear(inputs, width), nn.ReLU(), Linear(width, width))
        self.context = Linear(context, width)
        self.blocks = nn.ModuleList(ResidualBlock(width) for _ in range(config.analysis_blocks))
        self.latent = Linear(width, ranks)
        # Ranks that start wide survive the first rounding; narrow ones die at zero.
        nn.init.orthogonal_(self.latent.weight, gain=2.5)

    def forward(self, shape: Tensor, context: Tensor, neighbors: Tensor) -> Tensor:
        """y, fp32 (n, K), before rounding."""
        features = self.shape(shape) + self.context(context)
        for block in self.blocks:
            features = block(features, neighbors)
        return self.latent(torch.relu(features)).float()


class Analysis(nn.Module):
    """The analysis transforms of levels 3, 2 and 1."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.levels = nn.ModuleDict(
            {
                str(level): LevelAnalysis(
                    DESCRIPTOR[level], config.channels[level], config.ranks[level], config
                )
                for level in LATENT_LEVELS
            }
        )

    def level(self, level: int) -> LevelAnalysis:
        """The analysis transform of level 3, 2 or 1."""
        network = self.levels[str(level)]
        assert isinstance(network, LevelAnalysis)
        return network
