"""``pccodec encode``."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

import click

from pccodec import container
from pccodec.cli.streams import refuse_terminal, write_stream
from pccodec.cli.truncate import cut_stream, rate_in_bytes

if TYPE_CHECKING:
    import numpy as np

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
@click.option("-o", "--output", required=True, metavar="OUT", help='Stream to write, "-": standard output.')
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
@click.option("--format", "format_", metavar="NAME", help="Format of IN where its suffix does not tell it.")
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
    format_: str | None,
) -> None:
    """Compress the point cloud IN into one stream of every quality.

    Integer coordinates are kept exactly. Others are put on a grid: by default one on which most
    points keep a voxel of their own. Points that share a voxel are merged.
    """
    if sum(limit is not None for limit in (layers, target_bytes, target_bpp, target_psnr)) > 1:
        raise click.UsageError("give only one of --layers, --target-bytes, --target-bpp and --target-psnr")
    if target_psnr is not None and math.isnan(target_psnr):
        raise click.UsageError("nan dB is no quality")
    refuse_terminal(output)
    from pccodec import codec, io

    points = io.read(source, format_).points
    data = codec.encode(points, voxel_size=voxel_size, bits=bits, model=model, ranks=ranks, effort=effort)
    whole = len(data)
    if target_bpp is not None:
        target_bytes = rate_in_bytes(target_bpp, len(points))
    reached = ""
    if target_psnr is not None:
        target_bytes, reached = _reach(target_psnr, data, points)
    if layers is not None or target_bytes is not None:
        data = cut_stream(data, max_bytes=target_bytes, layers=layers)
    write_stream(output, data)
    stream = container.parse(data)
    merged = len(points) - stream.header.counts[0]
    logger.info(
        "%s points%s, %s bytes%s, %.4f bits per input point%s",
        f"{len(points):,}",
        f" ({merged:,} duplicates merged)" if merged else "",
        f"{len(data):,}",
        f" of {whole:,}" if len(data) < whole else "",
        8 * len(data) / len(points),
        reached,
    )


def _reach(target: float, data: bytes, points: np.ndarray) -> tuple[int, str]:
    """Bytes of ``data`` that reach a D1 PSNR in dB, and words that say what they reach."""
    # Rate control measures what the decoder makes of a prefix; like `eval`, only this option loads that.
    from pccodec.evaluation.embedded import Pccodec
    from pccodec.evaluation.rate_control import smallest_prefix

    found = smallest_prefix(data, points, target, Pccodec())
    if found.d1_psnr < target:
        logger.warning("%g dB cannot be reached, not even by the whole stream", target)
    quality = "lossless" if math.isinf(found.d1_psnr) else f"{found.d1_psnr:.2f} dB D1 PSNR"
    return found.size, f", {quality} (found with {found.decodings} decodings)"
