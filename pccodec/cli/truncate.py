"""``pccodec truncate``."""

from __future__ import annotations

import logging

import click

from pccodec import container
from pccodec.cli.stream_options import allow_partial_option
from pccodec.cli.streams import cut_size, reading, write_prefix

logger = logging.getLogger(__name__)


@click.command("truncate", short_help="Cut a stream to a size.")
@click.argument("source", metavar="IN")
@click.option("-o", "--output", required=True, metavar="OUT", help='Stream to write, "-": standard output.')
@click.option("--bytes", "max_bytes", type=click.IntRange(0), help="Keep at most so many bytes.")
@click.option("--layers", type=click.IntRange(0), help="Keep the first so many layers.")
@click.option("--bpp", type=click.FloatRange(0), help="Keep at most so many bits per point.")
@allow_partial_option
def truncate_command(
    source: str,
    output: str,
    max_bytes: int | None,
    layers: int | None,
    bpp: float | None,
    allow_partial: bool,
) -> None:
    """Cut the stream IN, a file or a URL: by bytes, layers or rate.

    A cut stream is the first bytes of the whole one, which `head -c` gives as well. Points are
    counted as the header does, duplicates merged.
    """
    if sum(limit is not None for limit in (max_bytes, layers, bpp)) != 1:
        raise click.UsageError("give one of --bytes, --layers and --bpp")
    with reading(source, allow_partial) as opened:
        stream = container.parse_source(opened)
        if bpp is not None:
            max_bytes = rate_in_bytes(bpp, stream.header.counts[0])
        kept = write_prefix(output, opened, cut_size(stream, max_bytes=max_bytes, layers=layers))
        logger.info("%s of %s bytes kept", f"{kept:,}", f"{opened.size:,}")


def rate_in_bytes(bpp: float, points: int) -> int:
    """Whole bytes in ``bpp`` bits a point.

    Raises:
        click.UsageError: the rate is not finite.
    """
    try:
        return int(bpp * points / 8)
    except (OverflowError, ValueError):
        raise click.UsageError(f"{bpp} bits per point is no rate") from None


def cut_stream(data: bytes, *, max_bytes: int | None = None, layers: int | None = None) -> bytes:
    """The first bytes of a stream in memory; ``cut_size`` says how many, and what it raises."""
    return data[: cut_size(container.parse(data), max_bytes=max_bytes, layers=layers)]
