"""``pccodec encode``."""

from __future__ import annotations

import logging
import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pccodec.cli.clouds import cloud_files
from pccodec.cli.console import with_messages
from pccodec.cli.encoding import EncodeOptions, encoded_cloud, try_to_encode
from pccodec.cli.options import worker_options, workers
from pccodec.cli.streams import refuse_terminal, write_prefix, write_stream
from pccodec.errors import InputError, PccodecError

if TYPE_CHECKING:
    from pccodec.work import Workers

logger = logging.getLogger(__name__)


class _Ranks(click.ParamType):
    """``auto`` (None) or the number of ranks at strides 8, 4 and 2, as in ``8,2,1``."""

    name = "auto|K8,K4,K2"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int, int] | None:
        if value == "auto":
            return None
        try:
            coarse, middle, fine = (int(count) for count in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is neither auto nor three numbers like 8,2,1", param, ctx)
        if min(coarse, middle, fine) < 0:
            self.fail("a number of ranks is negative", param, ctx)
        return coarse, middle, fine


@click.command("encode", short_help="Compress a point cloud.")
@click.argument("source", metavar="IN")
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="OUT",
    help='Stream to write, "-": standard output; a directory if IN is one.',
)
@click.option("--layers", type=click.IntRange(0), help="Write only the first so many layers.")
@click.option("--target-bytes", type=click.IntRange(0), help="Write at most so many bytes.")
@click.option("--target-bpp", type=click.FloatRange(0), help="Write at most so many bits per input point.")
@click.option(
    "--target-psnr",
    metavar="DB",
    type=click.FloatRange(0),
    help="Write the fewest bytes that reach this D1 PSNR, to within 0.1 dB. Decodes about ten prefixes to "
    "find them, seconds each for large clouds.",
)
@click.option("--voxel-size", type=float, help="Edge of a voxel, in units of the input.")
@click.option("--bits", type=int, help="Bits an axis, instead of a voxel size.")
@click.option("--model", help="Name of a model, or path of its .safetensors file.")
@click.option("--ranks", type=_Ranks(), default="auto", show_default=True, help="Latent ranks to write.")
@click.option(
    "--effort",
    type=click.IntRange(1, 3),
    default=2,
    show_default=True,
    help="How much the encoder tries to raise the quality of cut streams; decoding takes the same time.",
)
@click.option(
    "--tile-points",
    metavar="N",
    type=click.IntRange(1 << 12),
    default=1 << 20,
    show_default=True,
    help="Clouds of more points are coded in tiles, of at most an eighth as many each.",
)
@click.option("--format", "format_", metavar="NAME", help="Format of IN where its suffix does not tell it.")
@worker_options
def encode_command(
    source: str,
    output: str,
    layers: int | None,
    target_bytes: int | None,
    target_bpp: float | None,
    target_psnr: float | None,
    voxel_size: float | None,
    bits: int | None,
    model: str | None,
    ranks: tuple[int, int, int] | None,
    effort: int,
    tile_points: int,
    format_: str | None,
    jobs: int,
    scheduler: str | None,
) -> None:
    """Compress the point cloud IN into one stream of every quality.

    If IN is a directory, each of its clouds NAME.* is compressed to OUT/NAME.pcc.

    Integer coordinates are kept exactly. Others are put on a grid: by default one on which most
    points keep a voxel of their own. Points that share a voxel are merged.
    """
    if sum(limit is not None for limit in (layers, target_bytes, target_bpp, target_psnr)) > 1:
        raise click.UsageError("give only one of --layers, --target-bytes, --target-bpp and --target-psnr")
    if target_psnr is not None and math.isnan(target_psnr):
        raise click.UsageError("nan dB is no quality")
    # Late, so that help and wrong options need not wait for the codec.
    from pccodec.codec.config import EncodeConfig

    options = EncodeOptions(
        config=EncodeConfig(
            voxel_size=voxel_size, bits=bits, model=model, ranks=ranks, tile_points=tile_points, effort=effort
        ),
        layers=layers,
        target_bytes=target_bytes,
        target_bpp=target_bpp,
        target_psnr=target_psnr,
        format=format_,
    )
    if Path(source).is_dir():
        with workers(jobs, scheduler) as team:
            _encode_folder(Path(source), Path(output), options, team)
        return
    refuse_terminal(output)
    with workers(jobs, scheduler) as team, encoded_cloud(source, options, team) as encoded:
        write_prefix(output, encoded.stream, encoded.size)
        logger.info("%s", encoded.summary)


def _encode_folder(source: Path, output: Path, options: EncodeOptions, team: Workers) -> None:
    """Encode all clouds of a folder; those that cannot be are named, and an error in the end.

    Raises:
        InputError: some of them, or the folder of the streams, cannot be used.
    """
    paths = cloud_files([source])
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write to the folder {output}: {error.strerror or error}") from error
    # Other processes may run in another folder. They send streams back, so that none leaves a part of one.
    encode = with_messages(partial(try_to_encode, options=options))
    results = team.run(encode, [str(path.absolute()) for path in paths])
    failed = 0
    for path, result in zip(paths, results, strict=True):
        if isinstance(result, PccodecError):
            logger.error("%s", result)
            failed += 1
            continue
        write_stream(str(output / f"{path.stem}.pcc"), result.data)
        logger.info("%s: %s", path.stem, result.summary)
    if failed:
        raise InputError(f"{failed} of {len(paths)} clouds could not be encoded")
