"""``pccodec eval``."""

from __future__ import annotations

import logging
import math
import shlex
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from pccodec.cli.clouds import cloud_files
from pccodec.cli.console import with_messages
from pccodec.cli.options import worker_options, workers
from pccodec.cli.tables import show

if TYPE_CHECKING:
    from rich.progress import Progress
    from rich.table import Table

    from pccodec.evaluation.curves import RdCurve
    from pccodec.evaluation.embedded import Pccodec
    from pccodec.evaluation.report import Comparison
    from pccodec.work import Workers

logger = logging.getLogger(__name__)

_FILE = click.Path(dir_okay=False, path_type=Path)


class _Group(click.ParamType):
    """``NAME=PATTERN[,PATTERN…]``."""

    name = "NAME=PATTERN[,PATTERN...]"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, tuple[str, ...]]:
        name, equals, patterns = value.partition("=")
        if not (name and equals and patterns):
            self.fail(f"{value!r} is not of the form NAME=PATTERN", param, ctx)
        return name, tuple(patterns.split(","))


@click.command("eval", short_help="Measure rate and distortion over many cuts.")
@click.argument(
    "clouds",
    metavar="CLOUD_OR_DIR...",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, path_type=Path),
)
@click.option(
    "--anchors",
    "tables",
    metavar="CSV",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Results of other codecs to compare with; may be repeated.",
)
@click.option(
    "--group",
    "groups",
    multiple=True,
    type=_Group(),
    help="Also show the means over the clouds whose names match, as in dense='*_vox10,*_vox9'.",
)
@click.option("--json", "json_path", metavar="FILE", type=_FILE, help="Write everything measured.")
@click.option("--csv", "csv_path", metavar="FILE", type=_FILE, help="Write a row for each cut.")
@click.option("--plot", "plot_path", metavar="FILE", type=_FILE, help="Draw the curves (PNG, PDF or SVG).")
@click.option(
    "--plot-metric",
    type=click.Choice(["d1", "d2"]),
    default="d1",
    show_default=True,
    help="PSNR that the plot shows.",
)
@click.option(
    "--cuts",
    metavar="N",
    type=click.IntRange(0, 10000),
    default=0,
    show_default=True,
    help="Cuts inside layers, besides the end of each layer.",
)
@worker_options
@click.option("--voxel-size", type=float, help="Edge of a voxel, in units of the input.")
@click.option("--bits", type=int, help="Bits an axis, instead of a voxel size.")
@click.option("--model", help="Name of a model, or path of its .safetensors file.")
@click.option("--effort", type=click.IntRange(1, 3), default=2, show_default=True, help="As of encode.")
def eval_command(
    clouds: tuple[Path, ...],
    tables: tuple[Path, ...],
    groups: tuple[tuple[str, tuple[str, ...]], ...],
    json_path: Path | None,
    csv_path: Path | None,
    plot_path: Path | None,
    plot_metric: Literal["d1", "d2"],
    cuts: int,
    jobs: int,
    scheduler: str | None,
    voxel_size: float | None,
    bits: int | None,
    model: str | None,
    effort: int,
) -> None:
    """Encode each cloud ONCE, decode its stream at many cuts, and measure D1 and D2 PSNR.

    A directory stands for all clouds in it. A cloud is named after its file, without the suffix;
    anchor tables know it by that name. BD-rates compare the ends of all layers with each anchor
    codec. Tables go to standard output; that of all cuts only for a single cloud, else use --csv.
    """
    from pccodec import __version__
    from pccodec.codec.config import EncodeConfig
    from pccodec.evaluation.anchors import read_anchors
    from pccodec.evaluation.embedded import Pccodec
    from pccodec.evaluation.report import compare, group_means, to_csv, to_json

    paths = cloud_files(clouds)
    anchors = read_anchors(tables)
    codec = Pccodec(voxel_size=voxel_size, bits=bits, model=model, effort=effort)
    with workers(jobs, scheduler) as team:
        curves = _measure(paths, codec, cuts, team)
    comparisons = [result for curve in curves for result in compare(curve, anchors)]
    means = group_means(comparisons, {"mean": ("*",), **dict(groups)})
    command = _command(
        [("anchors", table.name) for table in tables]
        + [("group", f"{name}={','.join(patterns)}") for name, patterns in groups]
        + [("cuts", cuts), ("voxel-size", voxel_size), ("bits", bits), ("model", model and Path(model).name)]
        + [("effort", None if effort == EncodeConfig.effort else effort)]
    )
    if json_path:
        _write_text(json_path, to_json(curves, comparisons, means, __version__, command))
    if csv_path:
        _write_text(csv_path, to_csv(curves))
    if plot_path:
        from pccodec.evaluation.plot import plot_curves

        plot_curves(curves, anchors, plot_path, plot_metric)
    _print_tables(curves, comparisons, means)


def _command(options: Sequence[tuple[str, str | float | None]]) -> str:
    """The command in print, for reports: folders, which differ from machine to machine, are left out."""
    words = [word for name, value in options if value is not None for word in (f"--{name}", str(value))]
    return shlex.join(["pccodec", "eval", "CLOUDS", *words])


def _measure(paths: Sequence[Path], codec: Pccodec, cuts: int, team: Workers) -> list[RdCurve]:
    """Curves of all files, with a progress bar on standard error."""
    from pccodec.work import Serial

    curves: list[RdCurve] = []
    measure = partial(_measure_file, codec=codec, cuts=cuts)
    with _progress() as progress:
        task = progress.add_task("", total=len(paths))

        def show(done: int, total: int) -> None:
            progress.update(task, completed=len(curves) + done / total, description=paths[len(curves)].stem)

        # Other processes only say when a cloud is done. They may run in another folder.
        is_here = isinstance(team, Serial)
        function = partial(measure, on_progress=show) if is_here else with_messages(measure)
        for curve in team.run(function, [path.absolute() for path in paths]):
            curves.append(curve)
            progress.update(task, completed=len(curves))
    return curves


def _measure_file(
    path: Path, codec: Pccodec, cuts: int, on_progress: Callable[[int, int], None] | None = None
) -> RdCurve:
    from pccodec import io
    from pccodec.evaluation.curves import measure_curve

    return measure_curve(path.stem, io.read(path).points, codec, cuts, on_progress)


def _progress() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.1f} of {task.total:.0f} clouds"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not logger.isEnabledFor(logging.INFO),
    )


def _write_text(path: Path, text: str) -> None:
    from pccodec.io import atomic_write

    with atomic_write(path) as file:
        file.write(text.encode())


def _print_tables(
    curves: Sequence[RdCurve], comparisons: Sequence[Comparison], means: Sequence[tuple[Comparison, int]]
) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        # A file has no width; nothing shall be cut off.
        console.width = 160
    tables = [_cut_table(curves[0])] if len(curves) == 1 else []
    tables.append(_cloud_table(curves))
    if comparisons:
        tables.append(_comparison_table(comparisons, means))
    show(console, *tables)


def _cut_table(curve: RdCurve) -> Table:
    table = _table(curve.cloud, "layer", "bytes", "bpp", "D1 dB", "D2 dB", "points out", "decode s")
    for cut in curve.cuts:
        table.add_row(
            cut.layer if cut.is_layer_end else f"in {cut.layer}",
            f"{cut.size:,}",
            f"{cut.bpp:.4f}",
            _decibel(cut.d1_psnr),
            _decibel(cut.d2_psnr),
            f"{cut.points_out:,}",
            f"{cut.decode_seconds:.2f}",
        )
    return table


def _cloud_table(curves: Sequence[RdCurve]) -> Table:
    columns = ("points", "cuts", "bytes", "bpp", "whole file", "largest D1 drop", "encode s", "decode s")
    table = _table("One file each", "cloud", *columns)
    for curve in curves:
        whole = curve.cuts[-1]
        table.add_row(
            curve.cloud,
            f"{curve.points_in:,}",
            str(len(curve.cuts)),
            f"{whole.size:,}",
            f"{whole.bpp:.4f}",
            "lossless" if curve.is_lossless else f"{whole.d1_psnr:.2f} dB",
            f"{curve.largest_drop:.3f} dB",
            f"{curve.encode_seconds:.2f}",
            f"{whole.decode_seconds:.2f}",
        )
    return table


def _comparison_table(comparisons: Sequence[Comparison], means: Sequence[tuple[Comparison, int]]) -> Table:
    values = ("D1 BD-rate", "D1 BD-PSNR", "D2 BD-rate", "D2 BD-PSNR", "lossless size")
    table = _table("Against other codecs", "cloud", "anchor", *values, left=2)
    for number, comparison in enumerate(comparisons, start=1):
        last = number == len(comparisons) or comparisons[number].cloud != comparison.cloud
        table.add_row(comparison.cloud, comparison.anchor, *_cells(comparison), end_section=last)
    for mean, count in means:
        table.add_row(f"{mean.cloud} of {count}", mean.anchor, *_cells(mean))
    return table


def _cells(comparison: Comparison) -> tuple[str, ...]:
    c = comparison
    cells = (
        (c.bd_rate_d1, "+.1f", " %"),
        (c.bd_psnr_d1, "+.2f", " dB"),
        (c.bd_rate_d2, "+.1f", " %"),
        (c.bd_psnr_d2, "+.2f", " dB"),
        (c.lossless_rate, "+.1f", " %"),
    )
    return tuple("–" if math.isnan(value) else f"{value:{form}}{unit}" for value, form, unit in cells)


def _decibel(value: float) -> str:
    return "lossless" if math.isinf(value) else f"{value:.3f}"


def _table(title: str, *columns: str, left: int = 1) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number < left else "right", no_wrap=True)
    return table
