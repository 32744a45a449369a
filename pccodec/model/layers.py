"""Building blocks that the analysis and synthesis transforms share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pccodec.sparse.conv import SparseConv


class Linear(nn.Linear):
    """Linear layer that computes in the dtype of its input (bf16 in training)."""

    def forward(self, input: Tensor) -> Tensor:
        """(n, in_features) to (n, out_features)."""
        assert self.bias is not None
        return nn.functional.linear(input, self.weight.to(input.dtype), self.bias.to(input.dtype))


class ResidualBlock(nn.Module):
    """``x + conv(relu(conv(relu(x))))`` between the nodes of a level, (n, channels) in and out."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = SparseConv(channels, channels)
        self.second = SparseConv(channels, channels)
        # Starting as the identity lets deep stacks learn from the first step.
        nn.init.zeros_(self.second.weight)

    def forward(self, features: Tensor, neighbors: Tensor) -> Tensor:
        """Features (n, channels) and neighbour map int32 (n, 27)."""
        inner = self.first(torch.relu(features), neighbors)
        return features + self.second(torch.relu(inner), neighbors)
