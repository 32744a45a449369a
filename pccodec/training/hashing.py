"""Training of the hashing network: ``python -m pccodec.training.hashing --data MESHES -o MODEL``.

Captures of the same mesh shall have the same bits, captures of others shall not. In a batch
each mesh stands with two captures. The loss is cross-entropy, of which mesh a capture is: among those of the
batch, compared with their other captures (InfoNCE), and among all, compared with a learned code
of each. Both are taken of every prefix in ``lengths`` through a MaskLayer, and summed.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pccodec.errors import InputError
from pccodec.evaluation.command import command
from pccodec.evaluation.retrieval import precision_at, search_ranks
from pccodec.hashing.descriptor import CELLS
from pccodec.hashing.network import KIND, HashNetwork, to_tensors
from pccodec.hashing.search import BITS
from pccodec.io import atomic_write
from pccodec.masklayer import MaskLayer, only
from pccodec.model import store
from pccodec.training.captures import CONDITIONS
from pccodec.training.hash_twin import HashTwin
from pccodec.training.shape_descriptors import ShapeDescriptors
from pccodec.training.shapes import mesh_files, split_files

logger = logging.getLogger(__name__)

MEASURED = (8, 16, 32, 64)
CACHE = Path("out/hash_descriptors.npz")


@dataclass(frozen=True)
class HashTraining:
    """A training run.

    Attributes:
        seed: of weights and batches.
        steps: of training; the learning rate warms up over 50 and falls to 2 % under a cosine.
        batch: meshes a step, two captures each.
        learning_rate: of Adam; that of the meshes' codes is ``code_speed`` times as high.
        moduli, turned, widths: shape of the network.
        lengths: prefixes whose losses are averaged.
        unsized: share of the meshes of a step whose sizes are not told, so that hashes can ignore them.
        sharpness: codes are ``tanh(b·value)``, and ``b`` rises from 1 to this over four fifths of the
            steps, so that the loss comes to see what the signs keep.
        neighbors: whether half of a step's meshes are those whose codes are nearest to the other half's.
            Nearly all errors are between near twins, which would seldom meet by chance.
    """

    seed: int = 1
    steps: int = 3000
    batch: int = 256
    learning_rate: float = 2e-3
    code_speed: float = 5.0
    moduli: int = 24
    turned: int = 64
    widths: tuple[int, int] = (512, 256)
    lengths: tuple[int, ...] = (8, 16, 24, 32, 48, 64)
    unsized: float = 0.5
    sharpness: float = 4.0
    neighbors: bool = True


class ShapeLoss(nn.Module):
    """Cross-entropy of which mesh a code belongs to, at any prefix.

    Logits are ``s·⟨a, b⟩/√m`` of codes in −1…1 with ``m`` active bits; the scale ``s`` is learned for each.

    Args:
        same: bool (M, M), meshes that are the same shape and so no wrong answers for each other.
        bits: of a code.
    """

    same: Tensor

    def __init__(self, same: np.ndarray, bits: int = BITS) -> None:
        super().__init__()
        self.codes = nn.Parameter(torch.randn(len(same), bits))
        self.log_scale = nn.Parameter(torch.full((bits,), math.log(2.5)))
        others = same & ~np.eye(len(same), dtype=bool)
        self.register_buffer("same", torch.from_numpy(others))

    @torch.no_grad()
    def nearest(self, meshes: np.ndarray) -> np.ndarray:
        """Of each of some meshes, int64 (n,), the other mesh with the nearest code, int64 (n,)."""
        codes = torch.tanh(self.codes)
        likeness = codes[meshes] @ codes.t()
        likeness[torch.arange(len(meshes)), torch.from_numpy(meshes)] = -math.inf
        return likeness.argmax(dim=1).numpy()

    def forward(self, codes: Tensor, meshes: Tensor, length: int, sharpness: float = 1.0) -> Tensor:
        """Mean loss of codes (2n, bits), masked to ``length`` bits, of meshes int64 (n,) twice."""
        scale = self.log_scale[length - 1].exp() / math.sqrt(length)
        first, second = codes.chunk(2)
        own = torch.arange(len(meshes))
        pairs = (scale * (first @ second.t())).masked_fill(self.same[meshes][:, meshes], -math.inf)
        batch = functional.cross_entropy(pairs, own) + functional.cross_entropy(pairs.t(), own)
        twice = meshes.repeat(2)
        # Masked bits are zero in the codes, so those of the meshes need no mask.
        every = (scale * (codes @ torch.tanh(sharpness * self.codes).t())).masked_fill(
            self.same[twice], -math.inf
        )
        return 0.25 * batch + 0.5 * functional.cross_entropy(every, twice)


Lengths = Callable[[MaskLayer], Sequence[tuple[int, float]]]
Step = Callable[[torch.optim.Optimizer, HashTwin, ShapeLoss, int], None]


def train(
    shapes: ShapeDescriptors,
    config: HashTraining,
    mask: MaskLayer,
    lengths: Lengths,
    step: Step = lambda optimizer, twin, loss, longest: optimizer.step(),
    progress: Callable[[int, float], None] = lambda done, loss: None,
) -> HashTwin:
    """A trained network.

    Args:
        shapes: training captures and which meshes are the same.
        config: the run.
        mask: masks codes; its size is that of the code.
        lengths: prefixes of a step, and the weight of the loss of each.
        step: makes an optimizer's step in which the longest prefix was as given.
        progress: told the steps done and the loss.
    """
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    captures, count = shapes.training.shape[:2]
    spectra = torch.from_numpy(shapes.training)
    sized = spectra.shape[-1] > CELLS
    twin = HashTwin(config.moduli, config.turned, config.widths, mask.features, sized)
    twin.fit(spectra[: min(4, captures)].flatten(0, 1))
    loss_of = ShapeLoss(shapes.same, mask.features)
    groups = [
        {"params": [*twin.parameters(), loss_of.log_scale], "lr": config.learning_rate},
        {"params": [loss_of.codes], "lr": config.learning_rate * config.code_speed},
    ]
    optimizer = torch.optim.Adam(groups)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: _warm_cosine(done, config.steps))
    for done in range(config.steps):
        meshes = rng.choice(count, min(config.batch, count), replace=False)
        if config.neighbors:
            drawn = meshes[: (len(meshes) + 1) // 2]
            meshes = np.unique(np.concatenate([drawn, loss_of.nearest(drawn)]))
        views = rng.permuted(np.tile(np.arange(captures), (len(meshes), 1)), axis=1)[:, :2].T
        inputs = spectra[views.ravel(), np.tile(meshes, 2)]
        if sized:
            # Both captures of a mesh or none: a code without the size is no match for one with it.
            inputs[np.tile(rng.random(len(meshes)) < config.unsized, 2), :, CELLS] = 0
        sharpness = 1 + (config.sharpness - 1) * min(1.0, done / (0.8 * config.steps))
        codes, chosen = torch.tanh(sharpness * twin(inputs)), lengths(mask)
        own = torch.from_numpy(meshes)
        losses = [weight * loss_of(mask(codes, m), own, m, sharpness) for m, weight in chosen]
        loss = torch.stack(losses).sum()
        optimizer.zero_grad()
        loss.backward()
        step(optimizer, twin, loss_of, max(m for m, _ in chosen))
        schedule.step()
        progress(done + 1, float(loss.detach()))
    return twin.eval()


def _warm_cosine(done: int, steps: int) -> float:
    cosine = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, done / steps)))
    return min(1.0, (done + 1) / 50) * cosine


def values_of(network: HashNetwork, spectra: np.ndarray, block: int = 256) -> np.ndarray:
    """Values float32 (n, 64) of descriptors (n, F, R), a block at a time."""
    return np.concatenate([network.values(spectra[at : at + block]) for at in range(0, len(spectra), block)])


def bits_of(network: HashNetwork, spectra: np.ndarray) -> np.ndarray:
    """Codes as bool (n, 64) of descriptors (n, F, R)."""
    bits: np.ndarray = values_of(network, spectra) > 0
    return bits


def evaluate(network: HashNetwork, shapes: ShapeDescriptors, unseen: np.ndarray) -> list[dict[str, Any]]:
    """Precision@1 over all meshes by condition and bits: of the very mesh, and of the same shape.

    Codes are ranked as ``pccodec search`` shows them.

    Args:
        network: makes the codes.
        shapes: captures to find, and those that look for them.
        unseen: bool (M,), meshes not trained on, whose queries are reported apart as well.
    """
    index = bits_of(network, shapes.index)
    rows = []
    for condition, spectra in shapes.queries.items():
        queries = values_of(network, spectra)
        for bits in MEASURED:
            ranks = search_ranks(queries, index, bits)
            mesh = precision_at(ranks, np.eye(len(index), dtype=bool), 1)
            shape = precision_at(ranks, shapes.same, 1)
            row = {"p1_mesh": mesh, "p1_shape": shape}
            if unseen.any():
                row |= {"p1_mesh_unseen": mesh[unseen], "p1_shape_unseen": shape[unseen]}
            means = {name: round(float(value.mean()), 4) for name, value in row.items()}
            rows.append({"condition": condition, "bits": bits, **means})
    return rows


@command
def main(arguments: list[str] | None = None) -> None:
    """Train a hashing network, write its model file, and a JSON file of what it reaches beside it."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of meshes (*.npz)")
    parser.add_argument("--cache", type=Path, default=CACHE, help="simulated captures")
    parser.add_argument("--captures", type=int, default=64, help="of each mesh, if the cache is missing")
    parser.add_argument("--hold-out", action="store_true", help="do not train on a 25th of the meshes")
    parser.add_argument("--steps", type=int, default=HashTraining.steps)
    parser.add_argument("--seed", type=int, default=HashTraining.seed)
    parser.add_argument("-o", "--output", type=Path, required=True, help="model file: NAME.safetensors")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    _run(options, HashTraining(seed=options.seed, steps=options.steps))


def load_shapes(cache: Path, data: Path, captures: int) -> ShapeDescriptors:
    """The cached captures, simulated now if the file is missing.

    Raises:
        InputError: there are no meshes, or the cache holds captures of others.
    """
    files = mesh_files(data)
    if not cache.exists():
        logger.info("simulating captures of %d meshes into %s", len(files), cache)
        cache.parent.mkdir(parents=True, exist_ok=True)
        ShapeDescriptors.build(files, captures).save(cache)
    shapes = ShapeDescriptors.load(cache)
    if list(shapes.names) != [file.stem for file in files]:
        raise InputError(f"{cache} holds captures of other meshes than {data}: give another --cache")
    return shapes


def _run(options: argparse.Namespace, config: HashTraining) -> None:
    if options.output.suffix != store.SUFFIX or not options.output.parent.is_dir():
        raise InputError(f"{options.output}: a model is NAME{store.SUFFIX} in a folder that exists")
    shapes = load_shapes(options.cache, options.data, options.captures)
    _, held_out = split_files(mesh_files(options.data))
    unseen = np.isin(shapes.names, [file.stem for file in held_out] if options.hold_out else [])
    mask = MaskLayer(BITS, only(BITS, config.lengths), rescale=False)
    begin = time.process_time()

    def log(done: int, loss: float) -> None:
        if done % 50 == 0:
            logger.info("step %d  loss %.3f  %.0f s", done, loss, time.process_time() - begin)

    seen = shapes.subset(np.flatnonzero(~unseen))
    # Twins, too, shall be told apart: many of them can be, and of the others the loss learns nothing.
    seen = replace(seen, same=np.eye(len(seen.names), dtype=bool))
    twin = train(seen, config, mask, MaskLayer.prefixes, progress=log)
    seconds = time.process_time() - begin
    made = store.write_tensors(options.output, {"kind": KIND, "bits": BITS}, to_tensors(twin.export()))
    # What is measured is what was written, in fp16.
    from pccodec.hashing import load

    network = load(str(options.output))
    rows = evaluate(network, shapes, unseen)
    card = {
        "name": options.output.stem,
        "id": made.hex(),
        "training": {**asdict(config), "captures": len(shapes.training), "cpu_s": round(seconds)},
        "meshes": {
            "all": len(shapes.names),
            "unseen": int(unseen.sum()),
            "with_a_twin": int((shapes.same.sum(1) > 1).sum()),
            "with_a_twin_of_any_size": int((shapes.same_shape.sum(1) > 1).sum()),
            "random_among_twins": round(float((1 / shapes.same.sum(1)).mean()), 4),
            "random_among_twins_of_any_size": round(float((1 / shapes.same_shape.sum(1)).mean()), 4),
        },
        "retrieval": rows,
        "retrieval_ignoring_size": evaluate(network, shapes.ignoring_size(), unseen),
    }
    with atomic_write(options.output.with_suffix(".json")) as file:
        file.write((json.dumps(card, indent=1) + "\n").encode())
    for condition in CONDITIONS:
        own = [row for row in rows if row["condition"] == condition]
        found = "  ".join(f"{r['bits']}: {r['p1_mesh']:.3f} / {r['p1_shape']:.3f}" for r in own)
        logger.info("precision@1, mesh / shape, %-20s %s", condition, found)


if __name__ == "__main__":
    sys.exit(main())
