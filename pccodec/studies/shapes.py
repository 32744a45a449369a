"""MaskLayer on shapes: ``python -m pccodec.studies.shapes --data MESHES`` hashes captures of some meshes.

The network and the loss are those of :mod:`pccodec.training.hashing`, smaller and trained for less
time, and do not see the size, so that shapes alone tell. Queries are noisy, turned captures; the database
holds four other captures of each mesh, partial and uneven ones among them, none of them trained on.
Captures of the same shape are relevant.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pccodec.errors import InputError
from pccodec.evaluation.command import command
from pccodec.evaluation.retrieval import average_precision, hamming, precision_at
from pccodec.hashing.network import HashNetwork
from pccodec.masklayer import MaskedOptimizer
from pccodec.studies.arms import FEATURES, LENGTHS, RESULTS, SAMPLINGS, SEEDS, Arm, arms, means, write_results
from pccodec.training.hash_twin import HashTwin
from pccodec.training.hashing import CACHE, HashTraining, ShapeLoss, bits_of, load_shapes, train
from pccodec.training.shape_descriptors import ShapeDescriptors


@dataclass(frozen=True)
class Setting:
    """What every arm has.

    Attributes:
        every: of how many meshes one is taken.
        stored: captures of each mesh that make the database; the others are trained on.
        training: the budget. Its lengths are the arm's.
    """

    every: int = 6
    stored: int = 4
    training: HashTraining = field(
        default_factory=lambda: HashTraining(
            steps=200,
            batch=64,
            moduli=12,
            turned=32,
            widths=(256, 128),
            unsized=0.0,
            sharpness=1.0,
            neighbors=False,
        )
    )

    def released(self) -> Setting:
        """This with what the training of the released model has beyond it, but for its size and budget."""
        own = HashTraining()
        return replace(
            self, training=replace(self.training, sharpness=own.sharpness, neighbors=own.neighbors)
        )


@dataclass(frozen=True)
class Task:
    """Captures to train on, and descriptors of database and queries with the mesh of each."""

    shapes: ShapeDescriptors
    database: np.ndarray
    relevant: np.ndarray

    @classmethod
    def of(cls, shapes: ShapeDescriptors, setting: Setting) -> Task:
        """The task of a setting.

        Raises:
            InputError: there are too few captures of each mesh.
        """
        if len(shapes.training) < setting.stored + 2:
            raise InputError(f"the study needs {setting.stored + 2} captures of each mesh or more")
        part = shapes.without_size().subset(np.arange(0, len(shapes.names), setting.every))
        stored, kept = part.training[: setting.stored], part.training[setting.stored :]
        relevant = np.tile(part.same, (1, setting.stored))
        return cls(replace(part, training=kept), stored.reshape(-1, *stored.shape[2:]), relevant)


def train_arm(arm: Arm, bits: int, task: Task, config: HashTraining) -> HashNetwork:
    """The network of one arm and code length."""
    masked: list[MaskedOptimizer] = []

    def step(optimizer: torch.optim.Optimizer, twin: HashTwin, loss: ShapeLoss, longest: int) -> None:
        if not masked:
            pairs = [(twin.last.weight, 0), (twin.last.bias, 0), (loss.codes, 1)]
            masked.append(MaskedOptimizer(optimizer, {"code": pairs}))
        masked[0].step({"code": longest if arm.masked else bits})

    return train(task.shapes, config, arm.layer(bits), arm.lengths, step).export()


def measure(network: HashNetwork, bits: int, task: Task) -> dict[str, float]:
    """mAP and precision@1, in percent, of the first ``bits`` bits."""
    queries = bits_of(network, task.shapes.queries["noise and rotation"])
    distances = hamming(queries, bits_of(network, task.database), bits)
    return {
        "map": round(100 * float(average_precision(distances, task.relevant).mean()), 3),
        "p1": round(100 * float(precision_at(distances, task.relevant, 1).mean()), 3),
    }


def run(arm: Arm, seed: int, task: Task, config: HashTraining) -> Iterator[dict[str, Any]]:
    """Rows of one arm and seed, one for each length of code."""
    network, seconds = None, 0.0
    for bits in LENGTHS:
        if network is None or arm.sampling == "separate":
            begin = time.process_time()
            own = bits if arm.sampling == "separate" else FEATURES
            network = train_arm(arm, own, task, replace(config, seed=seed))
            seconds = time.process_time() - begin
        row = {"arm": arm.name, **asdict(arm), "seed": seed, "bits": bits}
        yield {**row, **measure(network, bits, task), "cpu_s": round(seconds, 2)}


@command
def main(arguments: list[str] | None = None) -> None:
    """Train all arms with all seeds and write what they reach."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of meshes (*.npz)")
    parser.add_argument("--cache", type=Path, default=CACHE, help="simulated captures")
    parser.add_argument("--captures", type=int, default=24, help="of each mesh, if the cache is missing")
    parser.add_argument("--samplings", nargs="+", choices=SAMPLINGS, default=list(SAMPLINGS))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--steps", type=int, default=Setting().training.steps)
    parser.add_argument("--released", action="store_true", help="train like the released model")
    parser.add_argument("--json", type=Path, default=RESULTS / "masklayer_shapes.json")
    options = parser.parse_args(arguments)
    setting = Setting(training=replace(Setting().training, steps=options.steps))
    if options.released:
        setting = setting.released()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    task = Task.of(load_shapes(options.cache, options.data, options.captures), setting)
    for arm in arms(options.samplings):
        for seed in options.seeds:
            rows += run(arm, seed, task, setting.training)
        print(f"{arm.name:32}", means(rows, arm, "map"), flush=True)
    values = {**asdict(setting), "meshes": len(task.shapes.names)}
    write_results(options.json, "shapes", values, rows)


if __name__ == "__main__":
    sys.exit(main())
