"""Quantization-aware layers: float layers that compute what the decoder's integers will.

Weights are rounded to int8 times a power of two per output channel, biases to the
integer grid, activations to steps of 1/16, all with straight-through gradients
(Bengio et al., arXiv 1308.3432): the rounding is ignored in the backward pass. With
fp32 inputs on the activation grid a layer then equals
:class:`pccodec.sparse.integer.ExactSum` to the bit; in bf16, as in training, its
sums are rounded.

Gains turn float units into integer ones. ``gain`` is the number of integer steps
in 1.0 of the output over that of the input: 1 between activations, 16 where a
binary input (1 stands for 1.0) gives activations. ``bias_gain`` is the number of
integer steps in 1.0 of the output. Both must be powers of two.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from pccodec.model.probability import LOGIT_UNIT
from pccodec.sparse.conv import SparseConv, sparse_conv
from pccodec.sparse.integer import ACTIVATION_MAX, ACTIVATION_UNIT, BIAS_BITS

MAX_SHIFT = 9
"""Finest step of a weight is 2**-MAX_SHIFT: keeps the sums of wide layers below 2**24."""
_WEIGHT_MAX = 127.0
_rounds = True


def rounds() -> bool:
    """Whether weights and activations are rounded; only :func:`in_floats` turns it off."""
    return _rounds


@contextmanager
def in_floats() -> Iterator[None]:
    """Within it nothing is rounded or bounded: the network that rounding is measured against."""
    global _rounds
    _rounds = False
    try:
        yield
    finally:
        _rounds = True


class _Round(torch.autograd.Function):
    """Rounds to multiples of 1/scale, at most ``limit`` of them, straight through."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor | float, limit: float) -> Tensor:
        return (x * scale).round_().clamp_(-limit, limit) / scale

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return grads[0], None, None


class _Activate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        bounded = x.clamp(0.0, ACTIVATION_MAX / ACTIVATION_UNIT)
        return bounded.mul_(ACTIVATION_UNIT).add_(0.5).floor_().mul_(1.0 / ACTIVATION_UNIT)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return torch.ops.aten.hardtanh_backward(grads[0], x, 0.0, ACTIVATION_MAX / ACTIVATION_UNIT)


def activate(x: Tensor) -> Tensor:
    """ReLU bounded and rounded to the integer network's steps, straight through inside the bounds."""
    out: Tensor = _Activate.apply(x)
    return out


def weight_shift(weight: Tensor, dims: tuple[int, ...], gain: float) -> Tensor:
    """Largest shift per output channel with which the weight times ``gain`` fits int8.

    Args:
        weight: any shape.
        dims: the axes that are summed over, of size 1 in the result.
        gain: see above.
    """
    peak = (weight.abs().amax(dim=dims, keepdim=True) * gain).clamp_min(2.0**-20)
    return torch.floor(torch.log2(_WEIGHT_MAX / peak)).clamp_(-7, MAX_SHIFT - math.log2(gain))


def round_weight(weight: Tensor, dims: tuple[int, ...], gain: float) -> Tensor:
    """The weight as int8 times a power of two per output channel, straight through; same shape."""
    if not _rounds:
        return weight
    scale = torch.exp2(weight_shift(weight.detach(), dims, gain)) * gain
    out: Tensor = _Round.apply(weight, scale, _WEIGHT_MAX)
    return out


def round_bias(bias: Tensor, bias_gain: float) -> Tensor:
    """The bias on the integer network's grid of 1 / (bias_gain · 2**BIAS_BITS), straight through."""
    if not _rounds:
        return bias
    out: Tensor = _Round.apply(bias, bias_gain * 2**BIAS_BITS, math.inf)
    return out


class QuantLinear(nn.Linear):
    """Linear layer with rounded weight and bias; computes in the dtype of its input.

    Args:
        c_in, c_out: channels.
        bias: whether there is one.
        gain, bias_gain: see above.
    """

    dims: ClassVar[tuple[int, ...]] = (1,)

    def __init__(
        self,
        c_in: int,
        c_out: int,
        *,
        bias: bool = True,
        gain: float = 1.0,
        bias_gain: float = float(ACTIVATION_UNIT),
    ) -> None:
        super().__init__(c_in, c_out, bias=bias)
        self.gain, self.bias_gain = gain, bias_gain

    def forward(self, x: Tensor) -> Tensor:
        """(…, c_in) to (…, c_out)."""
        bias = None if self.bias is None else round_bias(self.bias, self.bias_gain).to(x.dtype)
        return nn.functional.linear(x, round_weight(self.weight, self.dims, self.gain).to(x.dtype), bias)


class QuantConv(SparseConv):
    """3x3x3 convolution with rounded weight and bias; computes in the dtype of its input.

    Args:
        c_in, c_out: channels.
        gain, bias_gain: see above.
    """

    dims: ClassVar[tuple[int, ...]] = (0, 1)

    def __init__(
        self, c_in: int, c_out: int, *, gain: float = 1.0, bias_gain: float = float(ACTIVATION_UNIT)
    ) -> None:
        super().__init__(c_in, c_out)
        self.gain, self.bias_gain = gain, bias_gain

    def forward(self, features: Tensor, neighbors: Tensor) -> Tensor:
        """Features (n, c_in) and neighbour map int32 (n, 27) to (n, c_out)."""
        weight = round_weight(self.weight, self.dims, self.gain).to(features.dtype)
        return sparse_conv(features, weight, neighbors) + round_bias(self.bias, self.bias_gain).to(
            features.dtype
        )


def linear(c_in: int, c_out: int, gain: float = 1.0, bias: bool = True, scale: float = 1.0) -> QuantLinear:
    """A layer with random weights, ``scale`` times as large as keeps the size of activations."""
    layer = QuantLinear(c_in, c_out, bias=bias, gain=gain)
    nn.init.normal_(layer.weight, std=scale * (2.0 / c_in) ** 0.5)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def to_logits(c_in: int, c_out: int) -> QuantLinear:
    """A layer from activations to logits in nats."""
    layer = linear(c_in, c_out, gain=LOGIT_UNIT / ACTIVATION_UNIT)
    layer.bias_gain = float(LOGIT_UNIT)
    return layer


@torch.no_grad()
def export(layer: QuantLinear | QuantConv) -> dict[str, np.ndarray]:
    """A layer as :class:`~pccodec.sparse.integer.ExactSum` takes it.

    Returns:
        ``weight`` int8 (K, H), ``shift`` int8 (H,) and, if the layer has one, ``bias`` int32 (H,);
        K is c_in, or 27 c_in in the order of a gathered row.
    """
    # The shift is that of the weight before rounding, as in training.
    shift = weight_shift(layer.weight, layer.dims, layer.gain)
    weight = (layer.weight * (layer.gain * torch.exp2(shift))).round_().clamp_(-_WEIGHT_MAX, _WEIGHT_MAX)
    weight = weight.t() if weight.ndim == 2 else weight.flatten(0, 1)
    out = {
        "weight": np.ascontiguousarray(weight.to(torch.int8).cpu().numpy()),
        "shift": shift.reshape(-1).to(torch.int8).cpu().numpy(),
    }
    if layer.bias is not None:
        out["bias"] = export_bias(layer.bias, layer.bias_gain)
    return out


@torch.no_grad()
def export_bias(bias: Tensor, bias_gain: float) -> np.ndarray:
    """A bias as integers, int32 of the same shape, in steps of 2**-BIAS_BITS."""
    return (bias * (bias_gain * 2**BIAS_BITS)).round_().to(torch.int32).cpu().numpy()


def export_all(name: str, layers: nn.ModuleList) -> dict[str, np.ndarray]:
    """Tensors ``name.*`` of layers of one shape, stacked."""
    parts = [export(cast("QuantLinear | QuantConv", layer)) for layer in layers]
    return {f"{name}.{kind}": np.stack([part[kind] for part in parts]) for kind in parts[0]}
