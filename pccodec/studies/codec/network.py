"""The reduced codec: the float networks of level 3 and one run of their training."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pccodec.masklayer import MaskedOptimizer, MaskLayer
from pccodec.model.analysis import DESCRIPTOR
from pccodec.model.config import LIMIT
from pccodec.studies.codec.arms import Arm, TaskConfig
from pccodec.studies.codec.blocks import LEVEL, NodeCache, Nodes
from pccodec.training.autoencoder import LevelAnalysis, LevelSynthesis
from pccodec.training.loop import rank_parameters
from pccodec.training.objective import LatentRate, quantize

DTYPE = torch.float32
_CLIP = 4.0
_RATE_SPEED = 8.0


class LevelCodec(nn.Module):
    """Analysis, synthesis and rate model of level 3, and the mask between them.

    Args:
        config: of the task.
        arm: how its ranks are trained.
    """

    def __init__(self, config: TaskConfig, arm: Arm) -> None:
        super().__init__()
        channels, ranks = config.model.channels[LEVEL], config.ranks
        self.synthesis = LevelSynthesis(channels, 0, ranks, config.model.blocks[LEVEL])
        self.analysis = LevelAnalysis(DESCRIPTOR[LEVEL], channels, ranks, config.model)
        self.rate = LatentRate(config.model)
        self.mask = MaskLayer(ranks, arm.distribution, rescale=arm.rescale)
        self.rescale_rate = arm.rescale_rate
        # The synthesis transform masks again what it is given; gradients are rescaled once.
        self.synthesis.mask.rescale = False

    @property
    def scale(self) -> nn.Parameter:
        """Logarithmic scales of the rate model, (K,)."""
        return self.rate.log_scale[str(LEVEL)]

    def context(self, nodes: Nodes) -> Tensor:
        """What is known before the latent, (n, C)."""
        return self.synthesis.embed(nodes.level_input, DTYPE)

    def latent(self, nodes: Nodes, context: Tensor) -> Tensor:
        """y (n, K) before rounding."""
        y: Tensor = self.analysis(
            torch.from_numpy(nodes.shape), context.detach(), torch.from_numpy(nodes.neighbors)
        )
        return y

    def outcome(
        self, nodes: Nodes, context: Tensor, y_hat: Tensor | None, active: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Bits of the children that are left, estimated bits of the ranks, and logits (n, 8).

        Args:
            nodes: n nodes.
            context: of :meth:`context`.
            y_hat: (n, K) latent; None will do for ``active`` = 0.
            active: ranks that count.
        """
        rank_bits, masked = torch.zeros(()), None
        if active:
            assert y_hat is not None
            masked = self.mask(y_hat, active)
            paid = masked if self.rescale_rate else y_hat
            rank_bits = self.rate(paid, LEVEL)[:, :active].sum()
        logits, _ = self.synthesis(context, torch.from_numpy(nodes.neighbors), masked, active, DTYPE)
        cross_entropy = functional.binary_cross_entropy_with_logits(logits, nodes.children, reduction="sum")
        return cross_entropy / math.log(2.0), rank_bits, logits

    @torch.no_grad()
    def symbols(self, nodes: Nodes) -> np.ndarray:
        """Ranks as they are coded, int8 (n, K) in -LIMIT…LIMIT."""
        y = self.latent(nodes, self.context(nodes))
        return np.clip(np.rint(y.numpy()), -LIMIT, LIMIT).astype(np.int8)


class Training:
    """One run; weights, blocks and prefixes follow from its seed, the same for all arms as far as they can.

    Args:
        config: of the task.
        arm: how the ranks are trained.
        cache: training blocks.
        seed: of the run.
    """

    def __init__(self, config: TaskConfig, arm: Arm, cache: NodeCache, seed: int) -> None:
        torch.manual_seed(seed)
        self.config, self.arm, self.cache = config, arm, cache
        self.codec = LevelCodec(config, arm)
        self.steps, self.done = arm.steps(config), 0
        self._blocks = np.random.default_rng(seed)
        self._prefixes = torch.Generator().manual_seed(seed)
        rate = list(self.codec.rate.parameters())
        others = [*self.codec.synthesis.parameters(), *self.codec.analysis.parameters()]
        self._parameters = [*others, *rate]
        # Scales must follow the latents at once: while they lag, rates are wrong and ranks die.
        self._groups = [{"params": others, "speed": 1.0}, {"params": rate, "speed": _RATE_SPEED}]
        self.optimizer = torch.optim.Adam(self._groups, lr=config.learning_rate, betas=(0.9, 0.99))
        owned = rank_parameters(self.codec.analysis, self.codec.synthesis, self.codec.scale)
        self._masked = MaskedOptimizer(self.optimizer, {"ranks": owned})

    @property
    def progress(self) -> float:
        """Share of the steps that are done, 0…1."""
        return self.done / self.steps

    def _learning_rate(self) -> float:
        warm = min(1.0, (self.done + 1) / self.config.warmup)
        return self.config.learning_rate * warm * (0.02 + 0.49 * (1.0 + math.cos(math.pi * self.progress)))

    def _rate_weight(self) -> float:
        begin, end = self.config.rate_ramp
        share = min(1.0, max(0.0, (self.progress - begin) / (end - begin)))
        return self.config.rate * float(self.config.rate_start ** (1.0 - share))

    def _draw(self) -> list[tuple[int, float]]:
        """Prefixes of a step and their weights."""
        if self.arm.summed:
            return self.codec.mask.prefixes()
        return [(self.codec.mask.draw(self._prefixes), 1.0)]

    def step(self) -> list[int]:
        """One step; returns the prefixes that it was taken at."""
        nodes = self.cache.draw(self.config.nodes, self._blocks)
        prefixes = self._draw()
        longest = max(active for active, _ in prefixes)
        context = self.codec.context(nodes)
        y_hat = None
        if longest:
            y_hat = quantize(self.codec.latent(nodes, context), self.progress < self.config.noisy)
        loss = torch.zeros(())
        for active, weight in prefixes:
            left, paid, _ = self.codec.outcome(nodes, context, y_hat, active)
            loss = loss + weight * (left + self._rate_weight() * paid) / len(nodes)
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate() * group["speed"]
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self._parameters, _CLIP)
        if self.arm.masked:
            self._masked.step({"ranks": longest})
        else:
            self.optimizer.step()
        self.done += 1
        return [active for active, _ in prefixes]

    def run(self) -> LevelCodec:
        """All steps that are left; returns the codec, in evaluation mode."""
        while self.done < self.steps:
            self.step()
        return self.codec.eval()
