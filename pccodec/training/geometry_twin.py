"""Float twin of the geometry layers' integer network, for training.

The arithmetic is that of :mod:`pccodec.model.occupancy`, with weights and
activations rounded as there (straight-through gradients), so that what is
measured in training is what the integer network reaches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from pccodec.model.occupancy import (
    LOGIT_UNIT,
    MESSAGE,
    PASSES,
    STATISTICS,
    TENSOR_PREFIX,
)
from pccodec.sparse.conv import SparseConv
from pccodec.sparse.integer import ACTIVATION_MAX, ACTIVATION_UNIT, BIAS_BITS
from pccodec.sparse.neighbors import KERNEL

MAX_SHIFT = 9
"""Finest step of a weight is 2**-MAX_SHIFT: keeps the sums of wide layers below 2**24."""


@dataclass(frozen=True)
class NetworkSize:
    """Channels of the network's layers."""

    near: int = 16
    wide: int = 16
    hidden: int = 64
    mixed: int = 32


class _RoundWeight(nn.Module):
    """Rounds a weight to int8 times a power of two per output channel, straight through."""

    def __init__(self, dims: tuple[int, ...], gain: float) -> None:
        super().__init__()
        self.dims, self.gain = dims, gain

    def forward(self, weight: Tensor) -> Tensor:
        scale = 2.0 ** weight_shift(weight.detach(), self.dims, self.gain) * self.gain
        rounded = (weight.detach() * scale).round().clamp_(-127, 127) / scale
        return weight + (rounded - weight).detach()


def weight_shift(weight: Tensor, dims: tuple[int, ...], gain: float) -> Tensor:
    """Largest shift per output channel with which the weight times ``gain`` fits int8."""
    peak = (weight.abs().amax(dim=dims, keepdim=True) * gain).clamp_min(2.0**-20)
    return torch.floor(torch.log2(127.0 / peak)).clamp_(-7, MAX_SHIFT - math.log2(gain))


class _Activate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        bounded = x.clamp(0.0, ACTIVATION_MAX / ACTIVATION_UNIT)
        return bounded.mul_(ACTIVATION_UNIT).round_().mul_(1.0 / ACTIVATION_UNIT)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return torch.ops.aten.hardtanh_backward(grads[0], x, 0.0, ACTIVATION_MAX / ACTIVATION_UNIT)


def activate(x: Tensor) -> Tensor:
    """ReLU bounded and rounded to the integer network's steps, straight through inside the bounds."""
    out: Tensor = _Activate.apply(x)
    return out


def _linear(c_in: int, c_out: int, gain: float, bias: bool = True, scale: float = 1.0) -> nn.Linear:
    layer = nn.Linear(c_in, c_out, bias=bias)
    nn.init.normal_(layer.weight, std=scale * (2.0 / c_in) ** 0.5)
    if bias:
        nn.init.zeros_(layer.bias)
    parametrize.register_parametrization(layer, "weight", _RoundWeight((1,), gain), unsafe=True)
    return layer


def _conv(c_in: int, c_out: int) -> SparseConv:
    layer = SparseConv(c_in, c_out)
    parametrize.register_parametrization(layer, "weight", _RoundWeight((0, 1), 1.0), unsafe=True)
    return layer


class GeometryTwin(nn.Module):
    """Float twin of :class:`~pccodec.model.occupancy.OccupancyNetwork`."""

    def __init__(self, size: NetworkSize) -> None:
        super().__init__()
        c = size
        self.presence = _linear(KERNEL, c.near, ACTIVATION_UNIT, scale=0.5)
        self.statistics = _linear(STATISTICS, c.near, 1.0, bias=False, scale=0.15)
        self.wide = _conv(c.near, c.wide)
        self.start = _conv(c.wide, c.hidden)
        self.bits = nn.ModuleList(
            _linear(KERNEL, c.hidden, ACTIVATION_UNIT, bias=False, scale=0.5) for _ in range(PASSES - 1)
        )
        # Starts at zero: what the first half of the nodes tells the second is learned on top.
        self.same = nn.ModuleList(
            _linear(KERNEL, c.hidden, ACTIVATION_UNIT, bias=False, scale=0.0) for _ in range(PASSES)
        )
        self.hidden_bias = nn.Parameter(torch.zeros(PASSES, c.hidden))
        self.message = nn.ModuleList(_linear(c.hidden, MESSAGE, 1.0) for _ in range(PASSES))
        self.own = nn.ModuleList(_linear(c.hidden, c.mixed, 1.0, bias=False) for _ in range(PASSES))
        self.around = nn.ModuleList(_conv(MESSAGE, c.mixed) for _ in range(PASSES))
        self.deep = nn.ModuleList(_linear(c.mixed, c.mixed, 1.0) for _ in range(PASSES))
        self.logit = nn.ModuleList(_linear(c.mixed, 1, LOGIT_UNIT / ACTIVATION_UNIT) for _ in range(PASSES))

    def forward(self, neighbors: Tensor, statistics: Tensor, bits: Tensor, second: Tensor) -> Tensor:
        """Logits (n, 8) of the child bits.

        Args:
            neighbors: int32 (n, 27).
            statistics: (n, STATISTICS), in activation units.
            bits: (n, 8), the true child bits.
            second: bool (n,), the second group, which sees the first one's bits of the same octant.
        """
        dtype = torch.bfloat16

        def apply(layer: nn.Module, x: Tensor) -> Tensor:
            linear = cast(nn.Linear, layer)
            bias = None if linear.bias is None else linear.bias.to(dtype)
            return nn.functional.linear(x, linear.weight.to(dtype), bias)

        present = (neighbors < len(neighbors)).to(dtype)
        near = apply(self.presence, present) + apply(
            self.statistics, (statistics / ACTIVATION_UNIT).to(dtype)
        )
        wide = activate(self.wide(activate(near), neighbors))
        sums = self.start(wide, neighbors).float()
        later = second[:, None].to(dtype)
        both = torch.cat([bits.to(dtype), bits.to(dtype) * (1 - later)], dim=1)
        table = torch.cat([both, both.new_zeros(1, 2 * PASSES)])
        gathered = table.index_select(0, neighbors.reshape(-1)).view(-1, KERNEL, 2 * PASSES)
        logits = []
        for j in range(PASSES):
            if j:
                sums = sums + apply(self.bits[j - 1], gathered[:, :, j - 1]).float()
            total = sums + self.hidden_bias[j]
            message = activate(apply(self.message[j], activate(total.to(dtype))))
            told = apply(self.same[j], gathered[:, :, PASSES + j]) * later
            hidden = activate((total + told).to(dtype))
            mixed = activate(apply(self.own[j], hidden) + self.around[j](message, neighbors))
            deep = activate(apply(self.deep[j], mixed))
            logits.append(apply(self.logit[j], deep)[:, 0].float())
        return torch.stack(logits, dim=1)

    @torch.no_grad()
    def tensors(self) -> dict[str, np.ndarray]:
        """The integer network's tensors."""
        out: dict[str, np.ndarray] = {}

        def store(name: str, layers: list[nn.Module], gain: float, bias_gain: float) -> None:
            weights, shifts, biases = [], [], []
            for layer in layers:
                rounding = cast(Any, layer).parametrizations["weight"]
                # The shift is that of the weight before rounding, as in training.
                shift = weight_shift(rounding.original.detach(), rounding[0].dims, gain).reshape(-1)
                weight = cast(Tensor, layer.weight).detach()
                weight = weight.t() if weight.ndim == 2 else weight.flatten(0, 1)
                weights.append((weight * gain * 2.0**shift).round().clamp(-127, 127).to(torch.int8).numpy())
                shifts.append(shift.to(torch.int8).numpy())
                if layer.bias is not None:
                    bias = cast(Tensor, layer.bias) * (bias_gain * 2**BIAS_BITS)
                    biases.append(bias.round().to(torch.int32).numpy())
            single = len(layers) == 1
            out[f"{name}.weight"] = weights[0] if single else np.stack(weights)
            out[f"{name}.shift"] = shifts[0] if single else np.stack(shifts)
            if biases:
                out[f"{name}.bias"] = biases[0] if single else np.stack(biases)

        unit = float(ACTIVATION_UNIT)
        store("presence", [self.presence], unit, unit)
        store("statistics", [self.statistics], 1.0, unit)
        store("wide", [self.wide], 1.0, unit)
        store("start", [self.start], 1.0, unit)
        store("bits", list(self.bits), unit, unit)
        store("same", list(self.same), unit, unit)
        for name in ("message", "own", "around", "deep"):
            store(name, list(getattr(self, name)), 1.0, unit)
        store("logit", list(self.logit), LOGIT_UNIT / unit, float(LOGIT_UNIT))
        out["hidden.bias"] = (self.hidden_bias * unit * 2**BIAS_BITS).round().to(torch.int32).numpy()
        return {TENSOR_PREFIX + name: np.ascontiguousarray(value) for name, value in out.items()}
