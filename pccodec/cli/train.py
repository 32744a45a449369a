"""``pccodec train``: from meshes to a model file."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from pccodec.errors import DependencyError, InputError

logger = logging.getLogger(__name__)

CALIBRATION_BLOCKS = 160
"""Training blocks on which the frequency tables of the ranks are counted."""


@click.command("train", short_help="Train a model.")
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder of meshes (*.npz).")
@click.option("--config", type=click.Path(path_type=Path), help="JSON file of training options.")
@click.option("--run", type=click.Path(path_type=Path), default=Path("out/run"), show_default=True)
@click.option("--cache", type=click.Path(path_type=Path), default=Path("out/blocks"), show_default=True)
@click.option("--resume", is_flag=True, help="Go on from the run's newest checkpoint.")
@click.option("--start", type=click.Path(path_type=Path), help="Checkpoint whose weights to begin with.")
@click.option("--geometry", default=None, metavar="MODEL", help="Model whose other networks are kept.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Model file: NAME.safetensors.")
def train_command(
    data: Path,
    config: Path | None,
    run: Path,
    cache: Path,
    resume: bool,
    start: Path | None,
    geometry: str | None,
    output: Path | None,
) -> None:
    """Train the autoencoder on meshes and write a model file.

    Blocks of voxels are drawn from the meshes once and kept in the cache. The run's folder takes the
    checkpoint and a log of one JSON row every 50 steps. What is not trained comes from an existing
    model: the network of the geometry layers (python -m pccodec.training.geometry trains a new one), and
    with "only_draft" all but the network for predicted nodes.
    """
    if find_spec("torch") is None:
        raise DependencyError("training needs the package torch: pip install 'pccodec[train]'")
    from pccodec.model import store
    from pccodec.training.config import TrainConfig
    from pccodec.training.loop import Trainer
    from pccodec.training.shapes import block_caches

    if output is not None and output.suffix != store.SUFFIX:
        raise click.UsageError(f"a model file ends in {store.SUFFIX}")
    checkpoint = run / "checkpoint.pt"
    if checkpoint.exists() and not resume:
        raise InputError(f"{checkpoint} exists: give --resume to go on from it, or another --run")
    if resume and not checkpoint.exists():
        raise InputError(f"there is no {checkpoint} to resume from")
    settings = TrainConfig.load(config) if config else TrainConfig()
    known = store.load(geometry or store.DEFAULT)
    blocks, held_out = block_caches(data, cache, settings.blocks, settings.seed, settings.threads)
    trainer = Trainer(settings, blocks, held_out, run, known.geometry)
    if resume:
        trainer.restore(checkpoint)
    elif start is not None:
        trainer.start_from(start)
    _run(trainer)
    if output is not None:
        from pccodec.training.release import release

        counted = (blocks[index] for index in range(min(CALIBRATION_BLOCKS, len(blocks))))
        made = release(checkpoint, known.tensors, counted, output)
        logger.info("model %s written, id %s", output, made.hex())


def _run(trainer: Any) -> None:
    """Train to the end under a progress bar on standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("step {task.fields[step]}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[bits]}"), console=console) as progress:
        total = 60.0 * trainer.config.minutes
        task = progress.add_task("train", total=total, completed=trainer.seconds, step=trainer.steps, bits="")
        for row in trainer.run():
            if "validation" in row:
                for point in row["validation"]:
                    console.print(
                        f"stride {1 << point['finest']}, {point['ranks']} ranks: "
                        f"{point['rank_bpp']:.3f} bpp, {point['d1_psnr']:.2f} dB"
                    )
                continue
            bits = "  ".join(f"{name} {value:.2f}" for name, value in row.items() if name.startswith("rank"))
            progress.update(task, completed=trainer.seconds, step=trainer.steps, bits=bits)
