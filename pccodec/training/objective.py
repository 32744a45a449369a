"""The training objective: one truncated pass through the autoencoder and its loss.

A step draws a truncation state, ``(s, m)``: the level ``s`` down to which geometry
is known exactly, and how many ranks arrived. Below ``s`` the network sees the nodes
that it predicted itself and no others, as it will when decoding. True nodes that it
missed must stay out: a node that stands there although it looked improbable would
tell that it is true; the network learns to rely on that, and decoding suffers while
the cross-entropy falls.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pccodec.entropy.geometry import LevelContext
from pccodec.entropy.prediction import predict_level
from pccodec.model.config import LATENT_LEVELS, ModelConfig
from pccodec.model.draft import DRAFT_LEVEL
from pccodec.model.occupancy import PASSES, OccupancyNetwork
from pccodec.model.probability import LOGIT_MAX, LOGIT_UNIT
from pccodec.model.upsampling import SPARE, nodes_to_keep
from pccodec.sparse.neighbors import child_map
from pccodec.training import nodes
from pccodec.training.autoencoder import Autoencoder
from pccodec.training.block_pool import DeviceBatch
from pccodec.training.states import State
from pccodec.training.stream_twin import LevelInput
from pccodec.voxels import octree


@dataclass(frozen=True)
class LossConfig:
    """Weights of the loss, all in bits.

    Attributes:
        distortion: weight of the cross-entropy of the child bits of a level. A
            wrong child at stride 2**l costs 4**l in squared distance.
        rate: weight of a bit of the ranks by level. Ranks compete with the
            geometry layer that follows them, which is cheap: on dense clouds ``G_2``
            takes 1.8 bits a node and lowers the weighted distortion by about 60 a
            bit, ``G_1`` and ``G_0`` by 10 and 3 (estimated halfway through
            training). A rank that pays much less is worth nothing; part of its bits
            comes back, since the geometry network knows the ranks.
    """

    distortion: dict[int, float] = field(default_factory=lambda: {3: 16.0, 2: 4.0, 1: 1.0})
    rate: dict[int, float] = field(default_factory=lambda: {3: 60.0, 2: 14.0, 1: 5.0})


class LatentRate(nn.Module):
    """Zero-centred discretized logistic for each rank; the codec uses counted tables instead.

    Ranks are innovations (the analysis sees the context), so their location is 0.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.log_scale = nn.ParameterDict(
            {str(level): nn.Parameter(torch.zeros(config.ranks[level])) for level in LATENT_LEVELS}
        )

    @property
    def device(self) -> torch.device:
        """Where its parameters lie."""
        return self.log_scale[str(LATENT_LEVELS[0])].device

    def forward(self, y: Tensor, level: int) -> Tensor:
        """Bits (n, K) of y (n, K) under bins of width 1.

        In the stable form log p = logσ(z+h) + logσ(h−z) + log(1−e^(−2h)), z = y/s, h = 1/(2s):
        a clamped difference of two sigmoids would give outliers no gradient.
        """
        scale = torch.exp(self.log_scale[str(level)].clamp(-4.0, 4.0))
        z, h = y / scale, 0.5 / scale
        log_p = functional.logsigmoid(z + h) + functional.logsigmoid(h - z) + torch.log(-torch.expm1(-2 * h))
        return -log_p / np.log(2.0)


@dataclass
class Outcome:
    """Loss and its parts, tensors: bits a node by level, and bits a node (K,) by level."""

    loss: Tensor
    child_bits: dict[int, Tensor]
    rank_bits: dict[int, Tensor]


def quantize(y: Tensor, noisy: bool) -> Tensor:
    """y_hat: y plus uniform noise early in training, rounded with a straight-through gradient later.

    The rate is that of y_hat too. Below a bit a node noise overestimates it by up to a factor
    of two, and its gradient pulls values that already round to 0 further in, where ranks die.
    """
    if noisy:
        return y + torch.rand_like(y) - 0.5
    return y + (torch.round(y) - y).detach()


def _predicted_start(batch: DeviceBatch, finest: int, geometry: OccupancyNetwork) -> tuple[Tensor, Tensor]:
    """``X_3`` as predicted from level ``finest``: codes, and map (n, 27)."""
    codes = batch.tree.codes[finest].cpu().numpy().astype(np.uint64)
    neighbors = batch.tree.maps[finest].cpu().numpy()
    counts = {level: int(count) for level, count in enumerate(batch.counts.sum(0))}
    for level in range(finest - 1, LATENT_LEVELS[0] - 1, -1):
        context = LevelContext(neighbors, level, counts, codes)
        occupancy = predict_level(
            geometry,
            context,
            count=counts[level],
            most=counts[level],
            partial=None,
        )
        codes, neighbors = octree.expand(codes, occupancy), child_map(neighbors, occupancy)
    found = torch.from_numpy(codes.astype(np.int64)), torch.from_numpy(neighbors)
    return found[0].to(batch.device), found[1].to(batch.device)


def run_step(
    model: Autoencoder,
    rate: LatentRate,
    batch: DeviceBatch,
    state: State,
    loss_config: LossConfig,
    rate_factor: float,
    noisy: bool,
    geometry: OccupancyNetwork | None,
    dtype: torch.dtype = torch.bfloat16,
) -> Outcome:
    """Forward pass and loss of one batch in one truncation state.

    Args:
        rate_factor: scales all rate weights (ramped up early in training).
        noisy: whether latents are quantized by noise instead of rounding.
        geometry: predicts ``X_3`` in states whose finest level is coarser; without it they
            start at the true ``X_3``.
        dtype: of the networks' products.
    """
    level = LATENT_LEVELS[0]
    tree = batch.tree
    if state.finest > level and geometry is not None:
        codes, neighbors = _predicted_start(batch, state.finest, geometry)
    else:
        codes, neighbors = tree.codes[level], tree.maps[level]
    inherited: Tensor | None = None
    loss = torch.zeros((), device=batch.device)
    child_bits: dict[int, Tensor] = {}
    rank_bits: dict[int, Tensor] = {}
    while True:
        block = batch.block_of(codes, level)
        exact = level >= state.finest
        given = LevelInput(neighbors, batch.conditions(level, exact)[block], inherited)
        true = nodes.true_children(tree, level, codes)
        if level == DRAFT_LEVEL and not exact:
            logits = model.draft(given, dtype)
        else:
            network = model.synthesis(level)
            context = network.embed(given, dtype)
            y_hat = None
            active = state.active.get(level, 0)
            if active:
                shape = nodes.descriptor(tree, level).to(dtype)
                y = model.analysis(level)(shape, context.detach().to(dtype), neighbors)
                y_hat = quantize(y, noisy)
                bits = rate(y_hat, level)[:, :active]
                loss = loss + rate_factor * loss_config.rate[level] * bits.sum()
                rank_bits[level] = bits.detach().mean(0)
            logits, features = network(context, neighbors, y_hat, active, dtype)
        bce = functional.binary_cross_entropy_with_logits(logits, nodes.unpack(true).float(), reduction="sum")
        child_bits[level] = bce.detach() / (math.log(2.0) * len(tree.codes[level]))
        loss = loss + bce * (loss_config.distortion[level] / math.log(2.0))
        if level == 1:
            break
        level -= 1
        exact = level >= state.finest
        if exact:
            occupancy = true
        else:
            octants = state.octants if level == state.finest - 1 else 0
            occupancy = selected_children(logits.detach(), true, octants, block, batch, level)
        descent = model.draft if level == DRAFT_LEVEL and not exact else network
        inherited = descent.inherit(features, *nodes.children(occupancy))
        neighbors = nodes.child_map(neighbors, occupancy)
        codes = nodes.expand(codes, occupancy)
    return Outcome(loss / batch.points, child_bits, rank_bits)


def selected_children(
    logits: Tensor, true: Tensor, octants: int, block: Tensor, batch: DeviceBatch, level: int
) -> Tensor:
    """Children at a level, uint8 (n,), that the decoder would reconstruct in each block.

    Args:
        logits: fp32 (n, 8).
        true: uint8 (n,), the child bits.
        octants: how many of them are known.
        block: int64 (n,), the nodes' blocks.
        batch: the blocks.
        level: of the children.
    """
    counts = batch.counts[:, level]
    unknown = 256 * (PASSES - octants) // PASSES
    kept = [nodes_to_keep(int(count), SPARE if level else 0, unknown) for count in counts]
    steps = torch.round(logits * LOGIT_UNIT).int()
    told = nodes.unpack(true)[:, :octants]
    steps[:, :octants] = torch.where(told, LOGIT_MAX, -LOGIT_MAX).int()
    return nodes.select_children(steps, block, torch.tensor(kept, device=batch.device))
