"""``pccodec truncate``."""

from __future__ import annotations

import logging

import click

from pccodec import container
from pccodec.cli.streams import read_stream, write_stream
from pccodec.errors import StreamError

logger = logging.getLogger(__name__)


@click.command("truncate", short_help="Cut a stream to a size.")
@click.argument("source", metavar="IN")
@click.option("-o", "--output", required=True, metavar="OUT", help='Stream to write, "-": standard output.')
@click.option("--bytes", "max_bytes", type=click.IntRange(0), help="Keep at most so many bytes.")
@click.option("--layers", type=click.IntRange(0), help="Keep the first so many layers.")
@click.option("--bpp", type=click.FloatRange(0), help="Keep at most so many bits per point.")
def truncate_command(
    source: str, output: str, max_bytes: int | None, layers: int | None, bpp: float | None
) -> None:
    """Cut the stream IN: by bytes, layers or rate.

    A cut stream is the first bytes of the whole one, which `head -c` gives as well. Points are
    counted as the header does, duplicates merged.
    """
    if sum(limit is not None for limit in (max_bytes, layers, bpp)) != 1:
        raise click.UsageError("give one of --bytes, --layers and --bpp")
    data = read_stream(source)
    if bpp is not None:
        max_bytes = rate_in_bytes(bpp, container.parse(data).header.counts[0])
    cut = cut_stream(data, max_bytes=max_bytes, layers=layers)
    write_stream(output, cut)
    logger.info("%s of %s bytes kept", f"{len(cut):,}", f"{len(data):,}")


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
    """``container.truncate``, with a usage error for layers that do not exist or sizes below the header.

    Raises:
        click.UsageError: there are fewer layers, or the header is larger.
        StreamError: ``data`` is no stream.
    """
    stream = container.parse(data)
    if layers is not None and layers > len(stream.layers):
        raise click.UsageError(f"the stream has {len(stream.layers)} layers")
    try:
        return container.truncate(data, max_bytes=max_bytes, layers=layers)
    except StreamError as error:
        raise click.UsageError(str(error)) from error
