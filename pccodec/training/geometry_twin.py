"""Float twin of the geometry layers' integer network, for training.

The arithmetic is that of :mod:`pccodec.model.occupancy`, with weights and
activations rounded as there (straight-through gradients), so that what is
measured in training is what the integer network reaches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from pccodec.model.config import LATENT_LEVELS
from pccodec.model.occupancy import MESSAGE, PASSES, STATISTICS, TENSOR_PREFIX
from pccodec.model.rank_inputs import RANKS_MAX
from pccodec.sparse.integer import ACTIVATION_UNIT
from pccodec.sparse.neighbors import KERNEL
from pccodec.training.quantization import (
    QuantConv,
    activate,
    export,
    export_all,
    export_bias,
    linear,
    round_bias,
    to_logits,
)
from pccodec.training.remaining_twin import RemainingTwin


@dataclass(frozen=True)
class NetworkSize:
    """Channels of the network's layers."""

    near: int = 16
    wide: int = 16
    hidden: int = 64
    mixed: int = 32


def bits_around(bits: Tensor, neighbors: Tensor) -> Tensor:
    """Bits (n, 8) of the 27 cells around nodes, (n, 27, 8); 0 where there is no node."""
    table = torch.cat([bits, bits.new_zeros(1, PASSES)])
    return table.index_select(0, neighbors.reshape(-1)).view(-1, KERNEL, PASSES)


class GeometryTwin(nn.Module):
    """Float twin of :class:`~pccodec.model.occupancy.OccupancyNetwork`."""

    def __init__(self, size: NetworkSize) -> None:
        super().__init__()
        c = size
        self.presence = linear(KERNEL, c.near, ACTIVATION_UNIT, scale=0.5)
        self.statistics = linear(STATISTICS, c.near, bias=False, scale=0.15)
        self.wide = QuantConv(c.near, c.wide)
        self.start = QuantConv(c.wide, c.hidden)
        self.bits = nn.ModuleList(
            linear(KERNEL, c.hidden, ACTIVATION_UNIT, bias=False, scale=0.5) for _ in range(PASSES - 1)
        )
        # Starts at zero: what the first half of the nodes tells the second is learned on top.
        self.same = nn.ModuleList(
            linear(KERNEL, c.hidden, ACTIVATION_UNIT, bias=False, scale=0.0) for _ in range(PASSES)
        )
        # The latent ranks of levels 3, 2, 1 and how many there are; from zero too.
        self.ranks = nn.ModuleDict(
            {
                layer: nn.ModuleList(
                    linear(c_in, c_out, ACTIVATION_UNIT, bias=False, scale=0.0) for _ in LATENT_LEVELS
                )
                for layer, c_in, c_out in (
                    ("near", RANKS_MAX, c.near),
                    ("wide", RANKS_MAX, c.wide),
                    ("sums", KERNEL * RANKS_MAX, c.hidden),
                )
            }
        )
        self.ranks_bias = nn.Parameter(torch.zeros(len(LATENT_LEVELS), RANKS_MAX, c.hidden))
        self.hidden_bias = nn.Parameter(torch.zeros(PASSES, c.hidden))
        self.message = nn.ModuleList(linear(c.hidden, MESSAGE) for _ in range(PASSES))
        self.own = nn.ModuleList(linear(c.hidden, c.mixed, bias=False) for _ in range(PASSES))
        self.around = nn.ModuleList(QuantConv(MESSAGE, c.mixed) for _ in range(PASSES))
        self.deep = nn.ModuleList(linear(c.mixed, c.mixed) for _ in range(PASSES))
        self.logit = nn.ModuleList(to_logits(c.mixed, 1) for _ in range(PASSES))
        self.remaining = RemainingTwin(c.hidden)

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
        hidden_bias = round_bias(self.hidden_bias, ACTIVATION_UNIT)
        later = second[:, None].to(dtype)
        first = bits_around(bits.to(dtype) * (1 - later), neighbors)
        logits = []
        for j, sums in enumerate(self.passes(neighbors, statistics, bits, ranks, sent, dtype)):
            total = sums + hidden_bias[j]
            message = activate(self.message[j](activate(total.to(dtype))))
            told = self.same[j](first[:, :, j]) * later
            hidden = activate((total + told).to(dtype))
            mixed = activate(self.own[j](hidden) + self.around[j](message, neighbors))
            deep = activate(self.deep[j](mixed))
            logits.append(self.logit[j](deep)[:, 0].float())
        return torch.stack(logits, dim=1)

    def passes(
        self,
        neighbors: Tensor,
        statistics: Tensor,
        bits: Tensor,
        ranks: Tensor | None,
        sent: Tensor | None,
        dtype: torch.dtype,
    ) -> Iterator[Tensor]:
        """What is known of the nodes before each pass, sums (n, H); arguments as of :meth:`forward`."""
        sums = self._start(neighbors, statistics, ranks, sent, dtype)
        yield sums
        around = bits_around(bits.to(dtype), neighbors)
        for j in range(1, PASSES):
            sums = sums + self.bits[j - 1](around[:, :, j - 1]).float()
            yield sums

    def _start(
        self,
        neighbors: Tensor,
        statistics: Tensor,
        ranks: Tensor | None,
        sent: Tensor | None,
        dtype: torch.dtype,
    ) -> Tensor:
        """What is known of the nodes before any of their bits, sums (n, H)."""
        present = (neighbors < len(neighbors)).to(dtype)
        near = self.presence(present) + self.statistics((statistics / ACTIVATION_UNIT).to(dtype))
        if ranks is None or sent is None:
            wide = self.wide(activate(near), neighbors)
            return cast(Tensor, self.start(activate(wide), neighbors).float())
        ranks = ranks.to(dtype)
        nodes = [torch.nonzero((sent[:, 0] == l) & (sent[:, 1] > 0))[:, 0] for l in LATENT_LEVELS]
        own = [ranks[rows] for rows in nodes]
        wide = self.wide(activate(self._hear("near", near, nodes, own)), neighbors)
        sums = self.start(activate(self._hear("wide", wide, nodes, own)), neighbors).float()
        table = torch.cat([ranks, ranks.new_zeros(1, RANKS_MAX)])
        around = [
            table.index_select(0, neighbors[rows].reshape(-1)).view(-1, KERNEL * RANKS_MAX) for rows in nodes
        ]
        sums = self._hear("sums", sums, nodes, around)
        constants = round_bias(self.ranks_bias, ACTIVATION_UNIT)
        for rows, of_level in zip(nodes, constants, strict=True):
            sums = sums.index_add(0, rows, of_level[sent[rows, 1] - 1])
        return sums

    def _hear(self, layer: str, sums: Tensor, nodes: list[Tensor], ranks: list[Tensor]) -> Tensor:
        """Sums (n, C) of a layer with what the ranks of each level add at its nodes."""
        maps = cast(nn.ModuleList, self.ranks[layer])
        for of_level, rows, inputs in zip(maps, nodes, ranks, strict=True):
            sums = sums.index_add(0, rows, of_level(inputs).to(sums.dtype))
        return sums

    def tensors(self) -> dict[str, np.ndarray]:
        """The integer network's tensors."""
        out = {}
        for name in ("presence", "statistics", "wide", "start"):
            for kind, value in export(getattr(self, name)).items():
                out[f"{name}.{kind}"] = value
        lists = {name: getattr(self, name) for name in ("bits", "same", "message", "own", "around", "deep")}
        lists["logit"] = self.logit
        lists.update({f"ranks.{name}": layers for name, layers in self.ranks.items()})
        for name, layers in lists.items():
            out.update(export_all(name, layers))
        out["ranks.bias"] = export_bias(self.ranks_bias, ACTIVATION_UNIT)
        out["hidden.bias"] = export_bias(self.hidden_bias, ACTIVATION_UNIT)
        out.update({f"remaining.{name}": value for name, value in self.remaining.tensors().items()})
        return {TENSOR_PREFIX + name: value for name, value in out.items()}
