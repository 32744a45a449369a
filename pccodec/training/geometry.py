"""Trains the context network of the geometry layers.

python -m pccodec.training.geometry --data DIR --out FILE --minutes M
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from safetensors.numpy import save_file
from torch import Tensor, nn

from pccodec.entropy.geometry import LevelContext, second_group
from pccodec.evaluation.command import command
from pccodec.model import store
from pccodec.model.occupancy import PASSES, OccupancyNetwork
from pccodec.model.rank_inputs import RANKS_MAX
from pccodec.model.store import Model
from pccodec.training.geometry_twin import GeometryTwin, NetworkSize
from pccodec.training.levels import CloudCache, Level, cut, levels_of
from pccodec.training.rank_cache import RankCache
from pccodec.voxels import octree


@dataclass(frozen=True)
class GeometryTraining:
    """Size of the network and recipe of its training.

    ``rank_learning_rate`` is that of the parameters that hear latent ranks: they start at zero where
    the rest may be trained already. Rates fall to ``final_share`` of themselves. Parts of levels with
    ranks are shown without them with the probability ``without_ranks``.
    """

    size: NetworkSize = field(default_factory=NetworkSize)
    nodes_per_step: int = 8_000
    nodes_per_part: int = 2_500
    learning_rate: float = 2.5e-3
    rank_learning_rate: float = 1e-2
    final_share: float = 0.02
    warmup: float = 0.02
    without_ranks: float = 0.5
    level_shares: tuple[float, ...] = (0.5, 0.22, 0.12, 0.16)
    seed: int = 1


@dataclass(frozen=True)
class Batch:
    """Parts of levels, joined; the other tensors are as :meth:`GeometryTwin.forward` takes them.

    ``scored``, bool (n,), leaves out the rims; ``part``, int64 (n,), numbers the parts;
    ``second``, bool (n,), marks the nodes coded in the second half of each pass.
    """

    neighbors: Tensor
    statistics: Tensor
    bits: Tensor
    scored: Tensor
    part: Tensor
    second: Tensor
    ranks: Tensor
    sent: Tensor


def join(parts: list[tuple[Level, np.ndarray]], statistics: list[np.ndarray]) -> Batch:
    """One batch of several level parts; their absent neighbours become the joint sentinel."""
    total = sum(len(part.occupancy) for part, _ in parts)
    maps, offset = [], 0
    ranks = np.zeros((total, RANKS_MAX), dtype=np.float32)
    sent = np.zeros((total, 2), dtype=np.int64)
    for part, _ in parts:
        count = len(part.occupancy)
        if part.ranks is not None:
            number = min(part.ranks.shape[1], RANKS_MAX)
            ranks[offset : offset + count, :number] = part.ranks[:, :number]
            sent[offset : offset + count] = part.level + 1, number
        maps.append(np.where(part.neighbors == count, total, part.neighbors + offset).astype(np.int32))
        offset += count
    rows = [
        np.repeat(s[None], len(part.occupancy), axis=0)
        for s, (part, _) in zip(statistics, parts, strict=True)
    ]
    return Batch(
        torch.from_numpy(np.concatenate(maps)),
        torch.from_numpy(np.concatenate(rows).astype(np.float32)),
        torch.from_numpy(
            octree.unpack(np.concatenate([part.occupancy for part, _ in parts])).astype(np.float32)
        ),
        torch.from_numpy(np.concatenate([inside for _, inside in parts])),
        torch.from_numpy(np.repeat(np.arange(len(parts)), [len(part.occupancy) for part, _ in parts])),
        torch.from_numpy(np.concatenate([second_group(part.codes) for part, _ in parts])),
        torch.from_numpy(ranks),
        torch.from_numpy(sent),
    )


def inputs(batch: Batch) -> tuple[Tensor, ...]:
    """The arguments of :meth:`GeometryTwin.forward`."""
    return batch.neighbors, batch.statistics, batch.bits, batch.second, batch.ranks, batch.sent


def draw_ranks(level: Level, without: float, rng: np.random.Generator) -> Level:
    """The level as in a random stream: without ranks with a given probability, else with 1…K of them."""
    if level.ranks is None:
        return level
    sent = 0 if rng.random() < without else int(rng.integers(level.ranks.shape[1])) + 1
    return replace(level, ranks=level.ranks[:, :sent] if sent else None)


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
            context = LevelContext(level.neighbors, level.level, level.counts, level.codes)
            statistics.append(context.statistics)
            parts.append(cut(draw_ranks(level, config.without_ranks, rng), start, start + wanted))
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
    clouds: list[list[Level]],
    config: GeometryTraining,
    minutes: float,
    out: Path,
    console: Console,
    resume: Path | None,
) -> GeometryTwin:
    """Train for ``minutes`` of wall time; tensors are stored in ``out`` now and then."""
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    twin = GeometryTwin(config.size)
    if resume is not None:
        load_checkpoint(twin, resume)
    hearing, others = rank_parameters(twin)
    optimizer = torch.optim.Adam([{"params": others}, {"params": hearing}], betas=(0.9, 0.98))
    rates = config.learning_rate, config.rank_learning_rate
    begin = reported = time.monotonic()
    seconds, recent = 60 * minutes, []
    for step, batch in enumerate(batches(clouds, config, rng)):
        done = min(1.0, (time.monotonic() - begin) / seconds)
        if done >= 1.0:
            break
        decay = 0.5 * (1 + np.cos(np.pi * max(0.0, done - config.warmup) / (1 - config.warmup)))
        share = config.final_share + (1 - config.final_share) * decay
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * share * min(1.0, (done + 1e-3) / config.warmup)
        cost = bit_cost(twin(*inputs(batch)), batch)
        loss = relative_size(cost, batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(twin.parameters(), 1.0)
        optimizer.step()
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


def load_checkpoint(twin: GeometryTwin, file: Path) -> None:
    """Go on from a checkpoint, be it one of a network that heard no latent ranks.

    Raises:
        ValueError: if it is of another network.
    """
    keys = twin.load_state_dict(torch.load(file, weights_only=True), strict=False)
    wrong = [*keys.unexpected_keys, *(key for key in keys.missing_keys if not key.startswith("ranks"))]
    if wrong:
        raise ValueError(f"{file} is not a checkpoint of this network: {', '.join(wrong[:3])}")


def rank_parameters(twin: GeometryTwin) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The parameters that hear latent ranks, and all others."""
    hearing: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in twin.named_parameters():
        (hearing if name.startswith("ranks") else others).append(parameter)
    return hearing, others


def load_clouds(cache_files: list[Path], model: Model | None, console: Console) -> list[list[Level]]:
    """Levels of all cached clouds, with a model's ranks, which are computed where they are missing."""
    found = []
    for file in cache_files:
        clouds = CloudCache(file)
        ranks = None if model is None else RankCache.beside(file, model, console)
        for index in range(len(clouds)):
            known = None if ranks is None else ranks.ranks(index)
            found.append(levels_of(clouds.octree(index), known))
    return found


def save_tensors(twin: GeometryTwin, out: Path) -> None:
    """Store the integer network; it is checked to be exact before."""
    tensors = twin.tensors()
    OccupancyNetwork.from_tensors(tensors)
    save_file(tensors, out)


@command
def main() -> None:
    """Command line of the training."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of meshes (*.npz)")
    parser.add_argument(
        "--cache", type=Path, default=[Path("out/clouds.npz")], nargs="+", help="simulated clouds"
    )
    parser.add_argument("--out", type=Path, required=True, help="safetensors file to write")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--learning-rate", type=float, default=GeometryTraining.learning_rate)
    parser.add_argument("--rank-learning-rate", type=float, default=GeometryTraining.rank_learning_rate)
    parser.add_argument("--clouds", type=int, default=540, help="clouds to simulate if the cache is missing")
    parser.add_argument("--model", help="model whose latent ranks are known (name or file)")
    parser.add_argument("--resume", type=Path, help="checkpoint (.pt) to go on from")
    args = parser.parse_args()
    console = Console(stderr=True)
    if not args.cache[0].exists():
        console.print(f"simulating {args.clouds} clouds")
        CloudCache.build(args.data, args.cache[0], args.clouds, seed=1)
    model = store.load(args.model) if args.model else None
    train(
        load_clouds(args.cache, model, console),
        GeometryTraining(learning_rate=args.learning_rate, rank_learning_rate=args.rank_learning_rate),
        args.minutes,
        args.out,
        console,
        args.resume,
    )


if __name__ == "__main__":
    sys.exit(main())
