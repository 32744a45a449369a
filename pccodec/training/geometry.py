"""Trains the context network of the geometry layers.

    python -m pccodec.training.geometry --data DIR --out FILE --minutes M

The float twin below has the arithmetic of :mod:`pccodec.model.occupancy`, with
weights and activations rounded as there (straight-through gradients), so that
what is measured in training is what the integer network reaches.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from safetensors.numpy import save_file
from torch import Tensor, nn
from torch.nn.utils import parametrize

from pccodec.entropy.geometry import LevelContext
from pccodec.model.occupancy import (
    ACTIVATION_MAX,
    ACTIVATION_UNIT,
    BIAS_BITS,
    LOGIT_UNIT,
    MESSAGE,
    PASSES,
    STATISTICS,
    TENSOR_PREFIX,
    OccupancyNetwork,
)
from pccodec.sparse.conv import SparseConv
from pccodec.sparse.neighbors import KERNEL
from pccodec.training.levels import CloudCache, Level, cut
from pccodec.voxels import octree

MAX_SHIFT = 9
"""Finest step of a weight is 2**-MAX_SHIFT: keeps the sums of wide layers below 2**24."""


@dataclass(frozen=True)
class GeometryTraining:
    """Size of the network and recipe of its training."""

    near: int = 16
    wide: int = 16
    hidden: int = 64
    mixed: int = 32
    nodes_per_step: int = 8_000
    nodes_per_part: int = 2_500
    learning_rate: float = 3e-3
    final_learning_rate: float = 1e-4
    warmup: float = 0.02
    level_shares: tuple[float, ...] = (0.5, 0.22, 0.12, 0.16)
    seed: int = 1


class _RoundWeight(nn.Module):
    """Rounds a weight to int8 times a power of two per output channel, straight through."""

    def __init__(self, dims: tuple[int, ...], gain: float) -> None:
        super().__init__()
        self.dims, self.gain = dims, gain

    def forward(self, weight: Tensor) -> Tensor:
        scale = 2.0 ** weight_shift(weight.detach() * self.gain, self.dims) * self.gain
        rounded = (weight.detach() * scale).round().clamp_(-127, 127) / scale
        return weight + (rounded - weight).detach()


def weight_shift(weight: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Largest shift per output channel with which the weight fits int8."""
    peak = weight.abs().amax(dim=dims, keepdim=True).clamp_min(2.0**-20)
    return torch.floor(torch.log2(127.0 / peak)).clamp_(-7, MAX_SHIFT)


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

    def __init__(self, config: GeometryTraining) -> None:
        super().__init__()
        c = config
        self.presence = _linear(KERNEL, c.near, ACTIVATION_UNIT, scale=0.5)
        self.statistics = _linear(STATISTICS, c.near, 1.0, bias=False, scale=0.15)
        self.wide = _conv(c.near, c.wide)
        self.start = _conv(c.wide, c.hidden)
        self.bits = nn.ModuleList(
            _linear(KERNEL, c.hidden, ACTIVATION_UNIT, bias=False, scale=0.5) for _ in range(PASSES - 1)
        )
        self.hidden_bias = nn.Parameter(torch.zeros(PASSES, c.hidden))
        self.message = nn.ModuleList(_linear(c.hidden, MESSAGE, 1.0) for _ in range(PASSES))
        self.own = nn.ModuleList(_linear(c.hidden, c.mixed, 1.0, bias=False) for _ in range(PASSES))
        self.around = nn.ModuleList(_conv(MESSAGE, c.mixed) for _ in range(PASSES))
        self.deep = nn.ModuleList(_linear(c.mixed, c.mixed, 1.0) for _ in range(PASSES))
        self.logit = nn.ModuleList(_linear(c.mixed, 1, LOGIT_UNIT / ACTIVATION_UNIT) for _ in range(PASSES))

    def forward(self, neighbors: Tensor, statistics: Tensor, bits: Tensor) -> Tensor:
        """Logits (n, 8) of the child bits.

        Args:
            neighbors: int32 (n, 27).
            statistics: (n, STATISTICS), in activation units.
            bits: (n, 8), the true child bits.
        """
        dtype = torch.bfloat16

        def apply(layer: nn.Linear, x: Tensor) -> Tensor:
            bias = None if layer.bias is None else layer.bias.to(dtype)
            return nn.functional.linear(x, layer.weight.to(dtype), bias)

        present = (neighbors < len(neighbors)).to(dtype)
        near = apply(self.presence, present) + apply(self.statistics, (statistics / ACTIVATION_UNIT).to(dtype))
        wide = activate(self.wide(activate(near), neighbors))
        sums = self.start(wide, neighbors).float()
        table = torch.cat([bits, bits.new_zeros(1, PASSES)]).to(dtype)
        gathered = table.index_select(0, neighbors.reshape(-1)).view(-1, KERNEL, PASSES)
        logits = []
        for j in range(PASSES):
            if j:
                sums = sums + apply(self.bits[j - 1], gathered[:, :, j - 1]).float()
            hidden = activate((sums + self.hidden_bias[j]).to(dtype))
            message = activate(apply(self.message[j], hidden))
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
                weight = layer.weight.detach()
                if weight.ndim == 2:
                    weight = weight.t()
                weight = weight.reshape(-1, weight.shape[-1]) * gain
                # The layer's own weight is rounded already: its shift is that of the unrounded one.
                original = layer.parametrizations["weight"].original.detach()
                dims = layer.parametrizations["weight"][0].dims
                shift = weight_shift(original * gain, dims).reshape(-1)
                weights.append((weight * 2.0**shift).round().clamp(-127, 127).to(torch.int8).numpy())
                shifts.append(shift.to(torch.int8).numpy())
                if layer.bias is not None:
                    biases.append((layer.bias * bias_gain * 2**BIAS_BITS).round().to(torch.int32).numpy())
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
        for name in ("message", "own", "around", "deep"):
            store(name, list(getattr(self, name)), 1.0, unit)
        store("logit", list(self.logit), LOGIT_UNIT / unit, float(LOGIT_UNIT))
        out["hidden.bias"] = (self.hidden_bias * unit * 2**BIAS_BITS).round().to(torch.int32).numpy()
        return {TENSOR_PREFIX + name: np.ascontiguousarray(value) for name, value in out.items()}


@dataclass(frozen=True)
class Batch:
    """Parts of levels, joined: tensors as :meth:`GeometryTwin.forward` takes them.

    ``scored``, bool (n,), leaves out the rims; ``part``, int64 (n,), numbers the parts.
    """

    neighbors: Tensor
    statistics: Tensor
    bits: Tensor
    scored: Tensor
    part: Tensor


def join(parts: list[tuple[Level, np.ndarray]], statistics: list[np.ndarray]) -> Batch:
    """One batch of several level parts; their absent neighbours become the joint sentinel."""
    total = sum(len(part.occupancy) for part, _ in parts)
    maps, offset = [], 0
    for part, _ in parts:
        count = len(part.occupancy)
        maps.append(np.where(part.neighbors == count, total, part.neighbors + offset).astype(np.int32))
        offset += count
    rows = [np.repeat(s[None], len(part.occupancy), axis=0) for s, (part, _) in zip(statistics, parts, strict=True)]
    return Batch(
        torch.from_numpy(np.concatenate(maps)),
        torch.from_numpy(np.concatenate(rows).astype(np.float32)),
        torch.from_numpy(octree.unpack(np.concatenate([part.occupancy for part, _ in parts])).astype(np.float32)),
        torch.from_numpy(np.concatenate([inside for _, inside in parts])),
        torch.from_numpy(np.repeat(np.arange(len(parts)), [len(part.occupancy) for part, _ in parts])),
    )


def batches(clouds: list[list[Level]], config: GeometryTraining, rng: np.random.Generator) -> Iterator[Batch]:
    """Endless random batches of about ``nodes_per_step`` scored nodes."""
    shares = np.array(config.level_shares)
    while True:
        parts, statistics, total = [], [], 0
        while total < config.nodes_per_step:
            levels = clouds[rng.integers(len(clouds))]
            drawn = int(rng.choice(len(shares), p=shares / shares.sum()))
            if drawn == len(shares) - 1:
                # The shared class of coarse levels: the finer ones hold most of its nodes.
                drawn = min(drawn + int(rng.geometric(0.45)) - 1, len(levels) - 1)
            if drawn >= len(levels):
                continue
            level = levels[drawn]
            count = len(level.occupancy)
            wanted = min(count, config.nodes_per_part, config.nodes_per_step - total)
            start = int(rng.integers(count - wanted + 1))
            context = LevelContext(level.neighbors, level.level, level.counts)
            statistics.append(context.statistics)
            parts.append(cut(level, start, start + wanted))
            total += wanted
        yield join(parts, statistics)


def bit_cost(logits: Tensor, batch: Batch) -> Tensor:
    """Bits of each node (n,), the certain last bit of an otherwise empty node left out."""
    cost = nn.functional.binary_cross_entropy_with_logits(logits, batch.bits, reduction="none")
    certain = batch.bits[:, : PASSES - 1].sum(dim=1) == 0
    last = torch.where(certain, torch.zeros_like(cost[:, -1]), cost[:, -1])
    return (cost[:, :-1].sum(dim=1) + last) / np.log(2.0)


def relative_size(cost: Tensor, batch: Batch) -> Tensor:
    """Loss whose gradient is that of the mean logarithm of the parts' sizes, weighted by their nodes.

    A clean surface costs a third of the bits of a noisy one: plain bits would
    let the noisy ones, where little can be gained, rule the gradient.
    """
    scored, part = cost[batch.scored], batch.part[batch.scored]
    nodes = torch.zeros(int(part.max()) + 1).index_add_(0, part, torch.ones_like(scored))
    bits = torch.zeros_like(nodes).index_add_(0, part, scored.detach())
    scale = nodes.clamp_min(1.0) / (bits + 0.2 * nodes + 8.0)
    return (scored * scale[part]).mean()


def train(
    cache_files: list[Path], config: GeometryTraining, minutes: float, out: Path, console: Console, resume: Path | None
) -> GeometryTwin:
    """Train for ``minutes`` of wall time; tensors are stored in ``out`` now and then."""
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    clouds = [cache.levels(i) for cache in map(CloudCache, cache_files) for i in range(len(cache))]
    twin = GeometryTwin(config)
    if resume is not None:
        twin.load_state_dict(torch.load(resume, weights_only=True))
    optimizer = torch.optim.Adam(twin.parameters(), lr=config.learning_rate, betas=(0.9, 0.98))
    begin = reported = time.monotonic()
    seconds, step, recent = 60 * minutes, 0, []
    for batch in batches(clouds, config, rng):
        done = min(1.0, (time.monotonic() - begin) / seconds)
        if done >= 1.0:
            break
        decay = 0.5 * (1 + np.cos(np.pi * max(0.0, done - config.warmup) / (1 - config.warmup)))
        rate = config.final_learning_rate + (config.learning_rate - config.final_learning_rate) * decay
        optimizer.param_groups[0]["lr"] = rate * min(1.0, (done + 1e-3) / config.warmup)
        logits = twin(batch.neighbors, batch.statistics, batch.bits)
        cost = bit_cost(logits, batch)
        loss = relative_size(cost, batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(twin.parameters(), 1.0)
        optimizer.step()
        step += 1
        recent.append(float(cost.detach()[batch.scored].mean()))
        if time.monotonic() - reported > 30:
            reported = time.monotonic()
            left = (seconds - (reported - begin)) / 60
            console.print(f"step {step}  {np.mean(recent):.3f} bits a node  {left:.1f} min left")
            recent = []
            torch.save(twin.state_dict(), out.with_suffix(".pt"))
    torch.save(twin.state_dict(), out.with_suffix(".pt"))
    save_tensors(twin, out)
    return twin


def save_tensors(twin: GeometryTwin, out: Path) -> None:
    """Store the integer network; it is checked to be exact before."""
    tensors = twin.tensors()
    OccupancyNetwork.from_tensors(tensors)
    save_file(tensors, out)


def main() -> None:
    """Command line of the training."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of meshes (*.npz)")
    parser.add_argument("--cache", type=Path, default=Path("out/clouds.npz"), nargs="+", help="simulated clouds")
    parser.add_argument("--out", type=Path, required=True, help="safetensors file to write")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--clouds", type=int, default=400, help="clouds to simulate if the cache is missing")
    parser.add_argument("--resume", type=Path, help="checkpoint (.pt) to go on from")
    args = parser.parse_args()
    console = Console(stderr=True)
    files = args.cache if isinstance(args.cache, list) else [args.cache]
    if not files[0].exists():
        console.print(f"simulating {args.clouds} clouds")
        CloudCache.build(args.data, files[0], args.clouds, seed=1)
    train(files, GeometryTraining(), args.minutes, args.out, console, args.resume)


if __name__ == "__main__":
    main()
