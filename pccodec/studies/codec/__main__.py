"""Command line: runs what is missing, writes the results after every run, and draws them.

python -m pccodec.studies.codec --data MESHES --cache FOLDER --json FILE
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from pccodec.evaluation.command import command
from pccodec.model import store
from pccodec.studies.codec.arms import MECHANICS, TaskConfig, arm_names, make_arm
from pccodec.studies.codec.blocks import NodeCache
from pccodec.studies.codec.evaluation import Evaluator
from pccodec.studies.codec.network import Training
from pccodec.studies.codec.plot import plot
from pccodec.studies.codec.results import Results, Run
from pccodec.training.config import TrainConfig
from pccodec.training.quantization import in_floats
from pccodec.training.shapes import block_caches

_COMMAND = "python -m pccodec.studies.codec --data MESHES --cache FOLDER --json FILE"


def node_caches(data: Path, folder: Path, config: TaskConfig) -> tuple[NodeCache, NodeCache]:
    """Stride-8 nodes of training and held-out blocks, kept in ``folder`` beside the blocks.

    The blocks are those that ``pccodec train`` draws.
    """
    files = folder / "nodes_train.npz", folder / "nodes_held_out.npz"
    if not all(file.exists() for file in files):
        usual = TrainConfig()
        training, held_out = block_caches(data, folder, usual.blocks, usual.seed, workers=1)
        NodeCache.build(training, range(min(config.blocks, len(training))), files[0], None)
        NodeCache.build(held_out, range(len(held_out)), files[1], store.load().geometry)
    return NodeCache(files[0]), NodeCache(files[1])


def run_arm(results: Results, name: str, seed: int, training: NodeCache, evaluator: Evaluator) -> Run:
    """Train and measure one arm with one seed; in floats, since rounding is not what is studied."""
    best = MECHANICS[0] if name in MECHANICS else results.best_mechanics()
    arm = make_arm(name, results.config, best)
    begin = time.process_time()
    with in_floats():
        course = Training(results.config, arm, training, seed)
        codec = course.run()
        seconds = time.process_time() - begin
        points = evaluator.points(codec, arm.prefixes)
    return Run(arm, seed, course.steps, round(seconds, 1), points)


def study(
    results: Results,
    names: list[str],
    seeds: int,
    training: NodeCache,
    evaluator: Evaluator,
    in_time: Callable[[], bool] = lambda: True,
) -> None:
    """Run the arms that are missing, all seeds of one after the other, while there is time."""
    for name in names:
        for seed in range(seeds):
            if results.has(name, seed):
                continue
            if not in_time():
                return
            run = run_arm(results, name, seed, training, evaluator)
            results.add(run)
            curve = "  ".join(f"{point.bits:.2f}/{point.d1_psnr:.2f}" for point in run.points)
            print(f"{name:16} seed {seed}  {run.seconds:5.1f} s  {curve}", flush=True)


@command
def main(arguments: list[str] | None = None) -> None:
    """Run the study."""
    config = TaskConfig()
    parser = argparse.ArgumentParser(
        prog="python -m pccodec.studies.codec", description="MaskLayer in a codec."
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of meshes (*.npz)")
    parser.add_argument("--cache", type=Path, required=True, help="folder of the blocks, filled if empty")
    parser.add_argument("--arms", nargs="+", default=arm_names(config.ranks), help="default: all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path, required=True, help="results; runs that it holds are kept")
    parser.add_argument("--plot", type=Path, help="picture to draw")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="no run starts later")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    begin = time.monotonic()
    for name in options.arms:
        make_arm(name, config, MECHANICS[0])
    training, held_out = node_caches(options.data, options.cache, config)
    evaluator = Evaluator(training, held_out)
    base_bits = held_out.base_bits / len(evaluator.nodes)
    results = Results(options.json, config, base_bits, f"{_COMMAND} --seeds {options.seeds}")
    study(
        results,
        options.arms,
        options.seeds,
        training,
        evaluator,
        lambda: time.monotonic() - begin < 60 * options.minutes,
    )
    results.write()
    if options.plot:
        plot(results, options.plot)


if __name__ == "__main__":
    sys.exit(main())
