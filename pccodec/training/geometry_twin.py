"""Float twin of the geometry layers' integer network, for training.

The arithmetic is that of :mod:`pccodec.model.occupancy`, with weights and
activations rounded as there (straight-through gradients), so that what is
measured in training is what the integer network reaches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from pccodec.model.config import LATENT_LEVELS
from pccodec.model.occupancy import (
    LOGIT_UNIT,
    MESSAGE,
    PASSES,
    RANKS_MAX,
    STATISTICS,
    TENSOR_PREFIX,
)
from pccodec.sparse.integer import ACTIVATION_UNIT
from pccodec.sparse.neighbors import KERNEL
from pccodec.training.quantization import QuantConv, QuantLinear, activate, export, export_bias, round_bias


@dataclass(frozen=True)
class NetworkSize:
    """Channels of the network's layers."""

    near: int = 16
    wide: int = 16
    hidden: int = 64
    mixed: int = 32


def _linear(c_in: int, c_out: int, gain: float = 1.0, bias: bool = True, scale: float = 1.0) -> QuantLinear:
    layer = QuantLinear(c_in, c_out, bias=bias, gain=gain)
    nn.init.normal_(layer.weight, std=scale * (2.0 / c_in) ** 0.5)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def _logit(c_in: int) -> QuantLinear:
    layer = _linear(c_in, 1, gain=LOGIT_UNIT / ACTIVATION_UNIT)
    layer.bias_gain = float(LOGIT_UNIT)
    return layer


def _quantized(layer: nn.Module) -> QuantLinear | QuantConv:
    return cast("QuantLinear | QuantConv", layer)


class GeometryTwin(nn.Module):
    """Float twin of :class:`~pccodec.model.occupancy.OccupancyNetwork`."""

    def __init__(self, size: NetworkSize) -> None:
        super().__init__()
        c = size
        self.presence = _linear(KERNEL, c.near, ACTIVATION_UNIT, scale=0.5)
        self.statistics = _linear(STATISTICS, c.near, bias=False, scale=0.15)
        self.wide = QuantConv(c.near, c.wide)
        self.start = QuantConv(c.wide, c.hidden)
        self.bits = nn.ModuleList(
            _linear(KERNEL, c.hidden, ACTIVATION_UNIT, bias=False, scale=0.5) for _ in range(PASSES - 1)
        )
        # Starts at zero: what the first half of the nodes tells the second is learned on top.
        self.same = nn.ModuleList(
            _linear(KERNEL, c.hidden, ACTIVATION_UNIT, bias=False, scale=0.0) for _ in range(PASSES)
        )
        # The latent ranks of levels 3, 2, 1 and how many there are; from zero too.
        self.ranks = nn.ModuleList(
            _linear(KERNEL * RANKS_MAX, c.hidden, ACTIVATION_UNIT, bias=False, scale=0.0)
            for _ in LATENT_LEVELS
        )
        self.ranks_bias = nn.Parameter(torch.zeros(len(LATENT_LEVELS), RANKS_MAX, c.hidden))
        self.hidden_bias = nn.Parameter(torch.zeros(PASSES, c.hidden))
        self.message = nn.ModuleList(_linear(c.hidden, MESSAGE) for _ in range(PASSES))
        self.own = nn.ModuleList(_linear(c.hidden, c.mixed, bias=False) for _ in range(PASSES))
        self.around = nn.ModuleList(QuantConv(MESSAGE, c.mixed) for _ in range(PASSES))
        self.deep = nn.ModuleList(_linear(c.mixed, c.mixed) for _ in range(PASSES))
        self.logit = nn.ModuleList(_logit(c.mixed) for _ in range(PASSES))

    def forward(
        self,
        neighbors: Tensor,
        statistics: Tensor,
        bits: Tensor,
        second: Tensor,
        ranks: Tensor | None = None,
        sent: Tensor | None = None,
        dtype: torch.dtype = torch.bfloat16,
    ) -> Tensor:
        """Logits (n, 8) of the child bits.

        Args:
            neighbors: int32 (n, 27).
            statistics: (n, STATISTICS), in activation units.
            bits: (n, 8), the true child bits.
            second: bool (n,), the second group, which sees the first one's bits of the same octant.
            ranks: (n, RANKS_MAX), rank symbols, 0 where not sent; None if no node has any.
            sent: int64 (n, 2), the level of a node's ranks and their number, 0 for none.
            dtype: of the layers' sums; in fp32 they are those of the integer network, to the bit.
        """
        present = (neighbors < len(neighbors)).to(dtype)
        near = self.presence(present) + self.statistics((statistics / ACTIVATION_UNIT).to(dtype))
        wide = activate(self.wide(activate(near), neighbors))
        sums = self.start(wide, neighbors).float()
        if ranks is not None and sent is not None:
            sums = self._hear_ranks(sums, neighbors, ranks.to(dtype), sent)
        hidden_bias = round_bias(self.hidden_bias, ACTIVATION_UNIT)
        later = second[:, None].to(dtype)
        both = torch.cat([bits.to(dtype), bits.to(dtype) * (1 - later)], dim=1)
        table = torch.cat([both, both.new_zeros(1, 2 * PASSES)])
        gathered = table.index_select(0, neighbors.reshape(-1)).view(-1, KERNEL, 2 * PASSES)
        logits = []
        for j in range(PASSES):
            if j:
                sums = sums + self.bits[j - 1](gathered[:, :, j - 1]).float()
            total = sums + hidden_bias[j]
            message = activate(self.message[j](activate(total.to(dtype))))
            told = self.same[j](gathered[:, :, PASSES + j]) * later
            hidden = activate((total + told).to(dtype))
            mixed = activate(self.own[j](hidden) + self.around[j](message, neighbors))
            deep = activate(self.deep[j](mixed))
            logits.append(self.logit[j](deep)[:, 0].float())
        return torch.stack(logits, dim=1)

    def _hear_ranks(self, sums: Tensor, neighbors: Tensor, ranks: Tensor, sent: Tensor) -> Tensor:
        """Sums (n, hidden) with what the latent ranks add."""
        table = torch.cat([ranks, ranks.new_zeros(1, RANKS_MAX)])
        constants = round_bias(self.ranks_bias, ACTIVATION_UNIT)
        for index, level in enumerate(LATENT_LEVELS):
            nodes = torch.nonzero((sent[:, 0] == level) & (sent[:, 1] > 0))[:, 0]
            around = table.index_select(0, neighbors[nodes].reshape(-1)).view(-1, KERNEL * RANKS_MAX)
            told = self.ranks[index](around).float() + constants[index][sent[nodes, 1] - 1]
            sums = sums.index_add(0, nodes, told)
        return sums

    def tensors(self) -> dict[str, np.ndarray]:
        """The integer network's tensors."""
        out = {}
        for name in ("presence", "statistics", "wide", "start"):
            for kind, value in export(_quantized(getattr(self, name))).items():
                out[f"{name}.{kind}"] = value
        for name in ("bits", "same", "message", "own", "around", "deep", "logit", "ranks"):
            passes = [export(_quantized(layer)) for layer in getattr(self, name)]
            for kind in passes[0]:
                out[f"{name}.{kind}"] = np.stack([layer[kind] for layer in passes])
        out["ranks.bias"] = export_bias(self.ranks_bias, ACTIVATION_UNIT)
        out["hidden.bias"] = export_bias(self.hidden_bias, ACTIVATION_UNIT)
        return {TENSOR_PREFIX + name: value for name, value in out.items()}
