"""Trains the context network of the geometry layers.

python -m pccodec.training.geometry --data DIR --out FILE --minutes M
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from safetensors.numpy import save_file
from torch import Tensor, nn

from pccodec.evaluation.command import command
from pccodec.model import store
from pccodec.model.occupancy import PASSES, OccupancyNetwork
from pccodec.model.store import Model
from pccodec.training.geometry_twin import GeometryTwin, NetworkSize
from pccodec.training.level_pool import Batch, LevelPool, PoolConfig
from pccodec.training.levels import SCANS, CloudCache, mirrored_cloud
from pccodec.training.rank_cache import RankCache


@dataclass(frozen=True)
class GeometryTraining:
    """Size of the network and recipe of its training.

    ``rank_learning_rate`` is that of the parameters that hear latent ranks: they start at zero where
    the rest may be trained already. Rates fall to ``final_share`` of themselves. With ``remaining``
    the network of the bits to come is trained alone, else all others.
    """

    size: NetworkSize = field(default_factory=NetworkSize)
    pool: PoolConfig = field(default_factory=PoolConfig)
    learning_rate: float = 2.5e-3
    rank_learning_rate: float = 1e-2
    final_share: float = 0.02
    warmup: float = 0.02
    remaining: bool = False
    seed: int = 1


def inputs(batch: Batch) -> tuple[Tensor | None, ...]:
    """The arguments of :meth:`GeometryTwin.forward`."""
    return batch.neighbors, batch.statistics, batch.bits, batch.second, batch.ranks, batch.sent


def bit_cost(logits: Tensor, batch: Batch) -> Tensor:
    """Bits of each node (n,), the certain last bit of an otherwise empty node left out."""
    cost = nn.functional.binary_cross_entropy_with_logits(logits, batch.bits, reduction="none")
    certain = batch.bits[:, : PASSES - 1].sum(dim=1) == 0
    last = torch.where(certain, torch.zeros_like(cost[:, -1]), cost[:, -1])
    return (cost[:, :-1].sum(dim=1) + last) / np.log(2.0)


def remaining_cost(twin: GeometryTwin, batch: Batch, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """Bits (n, 8): of an octant to come, in the mean, when ``m`` octants are known, in column ``m``."""
    with torch.no_grad():
        passes = list(
            twin.passes(batch.neighbors, batch.statistics, batch.bits, batch.ranks, batch.sent, dtype)
        )
    costs = []
    for octants, sums in enumerate(passes):
        logits = twin.remaining(octants, sums, batch.neighbors, dtype)[:, octants:]
        bits = batch.bits[:, octants:]
        cost = nn.functional.binary_cross_entropy_with_logits(logits, bits, reduction="none")
        costs.append(cost.mean(dim=1) / np.log(2.0))
    return torch.stack(costs, dim=1)


def relative_size(cost: Tensor, batch: Batch) -> Tensor:
    """Loss whose gradient is that of the mean logarithm of the parts' sizes, weighted by their nodes.

    A clean surface costs a third of the bits of a noisy one: plain bits would
    let the noisy ones, where little can be gained, rule the gradient.
    """
    scored, part = cost[batch.scored], batch.part[batch.scored]
    nodes = scored.new_zeros(batch.parts).index_add_(0, part, torch.ones_like(scored.detach()))
    bits = torch.zeros_like(nodes).index_add_(0, part, scored.detach())
    scale = nodes.clamp_min(1.0) / (bits + 0.2 * nodes + 8.0)
    return (scored * scale[part]).mean()


def train(
    pool: LevelPool,
    config: GeometryTraining,
    minutes: float,
    out: Path,
    console: Console,
    resume: Path | None,
    device: torch.device,
) -> GeometryTwin:
    """Train for ``minutes`` of wall time; tensors are stored in ``out`` now and then."""
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    twin = GeometryTwin(config.size)
    if resume is not None:
        load_checkpoint(twin, resume)
    twin.to(device)
    if config.remaining:
        groups, rates = [list(twin.remaining.parameters())], [config.learning_rate]
    else:
        groups, rates = rank_parameters(twin), [config.rank_learning_rate, config.learning_rate]
    optimizer = torch.optim.Adam([{"params": group} for group in groups], betas=(0.9, 0.98))
    begin = reported = time.monotonic()
    seconds, step = 60 * minutes, 0
    recent: list[Tensor] = []
    while (done := (time.monotonic() - begin) / seconds) < 1.0:
        decay = 0.5 * (1 + np.cos(np.pi * max(0.0, done - config.warmup) / (1 - config.warmup)))
        share = config.final_share + (1 - config.final_share) * decay
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * share * min(1.0, (done + 1e-3) / config.warmup)
        batch = pool.draw(config.pool, rng)
        if config.remaining:
            cost = remaining_cost(twin, batch).sum(dim=1)
        else:
            cost = bit_cost(twin(*inputs(batch)), batch)
        loss = relative_size(cost, batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(twin.parameters(), 1.0)
        optimizer.step()
        step += 1
        recent.append(cost.detach()[batch.scored].mean())
        if time.monotonic() - reported > 30:
            reported = time.monotonic()
            left = (seconds - (reported - begin)) / 60
            bits = float(torch.stack(recent).mean())
            console.print(f"step {step}  {bits:.3f} bits a node  {left:.1f} min left")
            recent = []
            torch.save(twin.state_dict(), out.with_suffix(".pt"))
    twin.cpu()
    torch.save(twin.state_dict(), out.with_suffix(".pt"))
    save_tensors(twin, out)
    return twin


def load_checkpoint(twin: GeometryTwin, file: Path) -> None:
    """Go on from a checkpoint, be it one of a network that heard no ranks or could not tell what remains.

    Raises:
        ValueError: if it is of another network.
    """
    keys = twin.load_state_dict(torch.load(file, weights_only=True), strict=False)
    later = ("ranks", "remaining.")
    wrong = [*keys.unexpected_keys, *(key for key in keys.missing_keys if not key.startswith(later))]
    if wrong:
        raise ValueError(f"{file} is not a checkpoint of this network: {', '.join(wrong[:3])}")


def rank_parameters(twin: GeometryTwin) -> list[list[nn.Parameter]]:
    """The parameters that hear latent ranks, and those of all passes."""
    hearing: list[nn.Parameter] = []
    passes: list[nn.Parameter] = []
    for name, parameter in twin.named_parameters():
        if name.startswith("ranks"):
            hearing.append(parameter)
        elif not name.startswith("remaining."):
            passes.append(parameter)
    return [hearing, passes]


def load_pool(
    cache_files: list[Path],
    model: Model | None,
    console: Console,
    device: torch.device,
    mirrored: int = 0,
    seed: int = 0,
) -> LevelPool:
    """Levels of all cached clouds, with a model's ranks, which are computed where they are missing.

    Each cloud stands in the pool once more for each of ``mirrored`` random symmetries, without ranks.
    """
    rng = np.random.default_rng(seed)

    def clouds() -> Iterator[tuple[np.ndarray, Mapping[int, np.ndarray]]]:
        for file in cache_files:
            cached = CloudCache(file)
            ranks = None if model is None else RankCache.beside(file, model, console)
            for index in range(len(cached)):
                yield cached.codes(index), {} if ranks is None else ranks.ranks(index)
                for _ in range(mirrored):
                    yield mirrored_cloud(cached.codes(index), cached.kinds[index] in SCANS, rng), {}

    return LevelPool(clouds(), device)


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
    parser.add_argument("--nodes", type=int, default=PoolConfig.nodes_per_step, help="nodes a step")
    parser.add_argument("--part", type=int, default=PoolConfig.nodes_per_part, help="most nodes of a part")
    parser.add_argument("--mirrored", type=int, default=0, help="symmetric copies of each cloud")
    parser.add_argument(
        "--remaining", action="store_true", help="train the network of the bits to come, and it alone"
    )
    parser.add_argument("--seed", type=int, default=GeometryTraining.seed)
    parser.add_argument("--device", default="cpu", help="as torch names it: cpu or cuda")
    parser.add_argument("--resume", type=Path, help="checkpoint (.pt) to go on from")
    args = parser.parse_args()
    console = Console(stderr=True)
    if not args.cache[0].exists():
        console.print(f"simulating {args.clouds} clouds")
        CloudCache.build(args.data, args.cache[0], args.clouds, seed=1)
    model = store.load(args.model) if args.model else None
    device = torch.device(args.device)
    train(
        load_pool(args.cache, model, console, device, args.mirrored, args.seed),
        GeometryTraining(
            pool=PoolConfig(args.nodes, args.part),
            learning_rate=args.learning_rate,
            rank_learning_rate=args.rank_learning_rate,
            remaining=args.remaining,
            seed=args.seed,
        ),
        args.minutes,
        args.out,
        console,
        args.resume,
        device,
    )


if __name__ == "__main__":
    sys.exit(main())
