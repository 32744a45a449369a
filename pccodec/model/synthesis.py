"""Synthesis transform: from exactly known levels and the ranks that came down to voxels.

A level network holds one feature vector a node. It looks at the occupied
neighbourhood, adds the latent, mixes, and predicts the 8 children of each node:
their occupancy logits and, for those that are kept, their features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pccodec.masklayer import MaskLayer
from pccodec.model.config import COARSE, LATENT_LEVELS, ModelConfig
from pccodec.model.layers import Linear, ResidualBlock
from pccodec.sparse.conv import OccupancyConv

_HEAD_NODES = 1 << 15

CONDITIONS = 3
"""Statistics of the cloud that every node of a level is told (:func:`conditions`)."""


def conditions(above: float, here: float, below: float) -> list[float]:
    """How densely a level is filled: log2 of nodes per parent, children per node, grandchildren per child.

    A plane gives 4, so 2 is subtracted. Counts stand in the header or are known
    by then; a ratio that is not known is given as 4.
    """
    return [above - 2.0, here - 2.0, below - 2.0]


@dataclass
class LevelInput:
    """What a level network is given: n nodes.

    Attributes:
        neighbors: int32 (n, 27), the neighbour map.
        conditions: (n, 3), see :func:`conditions`.
        inherited: (n, channels) features from the parents, or None at the first level.
    """

    neighbors: Tensor
    conditions: Tensor
    inherited: Tensor | None


class LevelSynthesis(nn.Module):
    """Network of one level.

    Args:
        channels: features a node, C.
        child_channels: features a child in the next finer level, or 0 for voxels.
        ranks: latent ranks K; 0 for levels without a latent.
        blocks: residual blocks after the latent.
        prefixes: training distribution of the mask's prefix length, (K+1,).
    """

    def __init__(
        self, channels: int, child_channels: int, ranks: int, blocks: int, prefixes: list[float] | None = None
    ) -> None:
        super().__init__()
        self.occupancy = OccupancyConv(channels)
        self.conditions = Linear(CONDITIONS, channels)
        self.context = ResidualBlock(channels)
        self.mask = MaskLayer(ranks, prefixes) if ranks else None
        self.latent = Linear(ranks, channels) if ranks else None
        self.mix = nn.ModuleList(ResidualBlock(channels) for _ in range(blocks))
        self.hidden = Linear(channels, 2 * channels)
        self.logits = Linear(2 * channels, 8)
        self.child_channels = child_channels
        if child_channels:
            self.to_children = Linear(channels, 8 * child_channels)

    def embed(self, level: LevelInput, dtype: torch.dtype) -> Tensor:
        """Context features (n, C): all that is known about the nodes before the latent."""
        features = self.occupancy(level.neighbors, dtype) + self.conditions(level.conditions.to(dtype))
        if level.inherited is not None:
            features = features + level.inherited
        out: Tensor = self.context(features, level.neighbors)
        return out

    def forward(
        self, context: Tensor, neighbors: Tensor, y_hat: Tensor | None, active: int | Tensor
    ) -> tuple[Tensor, Tensor]:
        """From context features to predictions.

        Args:
            context: (n, C) from :meth:`embed`.
            neighbors: int32 (n, 27).
            y_hat: (n, K) latent, or None for none.
            active: ranks that count, for all nodes or int64 (n,).

        Returns:
            Occupancy logits of the children (n, 8), fp32, and features (n, C).
        """
        features = context
        if self.mask is not None and self.latent is not None:
            if y_hat is None:
                y_hat = context.new_zeros(len(context), self.mask.features)
            features = features + self.latent(self.mask(y_hat, active).to(features.dtype))
        for block in self.mix:
            features = block(features, neighbors)
        features = torch.relu(features)
        # In parts, so that the wide hidden layer never stands whole in memory when decoding.
        parts = [self.logits(torch.relu(self.hidden(part))).float() for part in features.split(_HEAD_NODES)]
        return torch.cat(parts), features

    def inherit(self, features: Tensor, node: Tensor, octant: Tensor) -> Tensor:
        """Features (k, C') that children inherit, given their parents' index and octant, int64 (k,)."""
        by_octant = self.to_children(features).view(-1, self.child_channels)
        return by_octant.index_select(0, node * 8 + octant)


class Synthesis(nn.Module):
    """The level networks: one each for levels 3, 2 and 1, one for all above."""

    def __init__(self, config: ModelConfig, prefixes: dict[int, list[float]] | None = None) -> None:
        super().__init__()
        self.config = config
        below = {COARSE: config.channels[COARSE], 3: config.channels[2], 2: config.channels[1], 1: 0}
        self.levels = nn.ModuleDict(
            {
                str(level): LevelSynthesis(
                    config.channels[level],
                    below[level],
                    config.ranks.get(level, 0),
                    config.blocks[level],
                    (prefixes or {}).get(level),
                )
                for level in (COARSE, *LATENT_LEVELS)
            }
        )
        # The shared network hands on its own width; level 3 may be wider.
        self.enter = Linear(config.channels[COARSE], config.channels[3])

    def level(self, level: int) -> LevelSynthesis:
        """The network of a level ≥ 1."""
        network = self.levels[str(min(level, COARSE))]
        assert isinstance(network, LevelSynthesis)
        return network

    def inherit(self, level: int, features: Tensor, node: Tensor, octant: Tensor) -> Tensor:
        """Features that the children, nodes of ``level - 1``, take over from nodes of ``level`` ≥ 2."""
        passed = self.level(level).inherit(features, node, octant)
        entered: Tensor = self.enter(passed) if level == COARSE else passed
        return entered
