"""The layer that keeps a prefix of its features."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from pccodec.masklayer.sampling import active_probability, normalized

LARGEST_FACTOR = 1e3
"""Gradients are never rescaled by more: a feature that is hardly ever active cannot be balanced."""


class _Rescale(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, factor: Tensor) -> Tensor:
        ctx.save_for_backward(factor)
        return features.view_as(features)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (factor,) = ctx.saved_tensors
        return grads[0] * factor.to(grads[0].dtype), None


def prefix_mask(features: int, active: int | Tensor, device: torch.device | None = None) -> Tensor:
    """Mask of the first ``active`` of ``features`` features.

    Args:
        features: K.
        active: m in 0…K, or int64 (n,) with one m a sample.

    Returns:
        bool (K,), or (n, K) for a tensor of prefixes.
    """
    index = torch.arange(features, device=device)
    if isinstance(active, Tensor):
        return index < active[:, None]
    return index < active


class MaskLayer(nn.Module):
    """Keeps a prefix of the features in its last axis and zeroes the rest: ``z'_i = z_i·[i < m]``.

    In training ``m`` is drawn at each call, once for the batch or for each sample, unless it is
    given; in evaluation it is ``keep``. To sum the loss over all prefixes instead of drawing one::

        loss = sum(weight * criterion(head(layer(z, m)), y) for m, weight in layer.prefixes())

    Args:
        features: K, the number of features.
        distribution: weight of each prefix length 0…K in training, K+1 numbers (see
            :mod:`pccodec.masklayer.sampling`); uniform over 0…K if not given.
        rescale: balancing gradient rescaling. Feature ``i`` is active with
            ``p_i = P(m > i)``, so that ``E[∂L/∂z_i] = p_i·E[∂L/∂z_i | m > i]``; backward divides
            it by ``p_i`` (by 1/1000 at least), and late features learn as fast as
            early ones. It acts on what flows back through the layer: on the weights
            that make the features and all before them, not on those that read them.
            With a loss summed over weighted prefixes ``p_i`` is the same number.
        per_sample: draw a prefix for each sample instead of one for the batch.

    Attributes:
        keep: the prefix kept in evaluation; K until it is set.
        drawn: what the last call in training kept, int or int64 (n,), for
            :meth:`pccodec.masklayer.MaskedOptimizer.step`.
    """

    active_probability: Tensor
    distribution: Tensor

    def __init__(
        self,
        features: int,
        distribution: Iterable[float] | None = None,
        rescale: bool = True,
        per_sample: bool = False,
    ) -> None:
        super().__init__()
        given = normalized(features, [1.0] * (features + 1) if distribution is None else distribution)
        self.features = features
        self.rescale = rescale
        self.per_sample = per_sample
        self.keep = features
        self.drawn: int | Tensor = features
        self.register_buffer("distribution", given, persistent=False)
        self.register_buffer("active_probability", active_probability(given), persistent=False)

    def draw(self, generator: torch.Generator | None = None) -> int:
        """A prefix length 0…K from the training distribution."""
        return int(torch.multinomial(self.distribution, 1, generator=generator))

    def draw_each(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Prefix lengths int64 (count,), independent, from the training distribution."""
        return torch.multinomial(self.distribution, count, replacement=True, generator=generator)

    def prefixes(self) -> list[tuple[int, float]]:
        """All lengths ``m`` that training can draw, with their probabilities, shortest first.

        A loss summed over them with these weights is the expectation of the drawn one.
        """
        return [(m, q) for m, q in enumerate(self.distribution.tolist()) if q > 0]

    def forward(self, features: Tensor, active: int | Tensor | None = None) -> Tensor:
        """Features (…, K) with all but a prefix zeroed, in the same shape.

        Args:
            features: (…, K); with a prefix for each sample (n, …, K).
            active: one prefix for the batch, or int64 (n,) with one for each of the n samples.
                None: drawn in training, ``keep`` in evaluation.
        """
        if active is None:
            active = self._next(len(features)) if self.training else self.keep
        if self.training:
            self.drawn = active
            if self.rescale:
                factor = 1.0 / self.active_probability.clamp_min(1.0 / LARGEST_FACTOR)
                features = _Rescale.apply(features, factor)
        mask = prefix_mask(self.features, active, features.device)
        if isinstance(active, Tensor):
            mask = mask.view(len(active), *[1] * (features.ndim - 2), self.features)
        return features * mask.to(features.dtype)

    def _next(self, samples: int) -> int | Tensor:
        return self.draw_each(samples) if self.per_sample else self.draw()
