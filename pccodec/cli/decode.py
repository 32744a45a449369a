"""``pccodec decode``."""

from __future__ import annotations

import logging

import click

from pccodec import container
from pccodec.cli.streams import read_stream, refuse_terminal

logger = logging.getLogger(__name__)


@click.command("decode", short_help="Restore a cloud from a stream, whole or cut.")
@click.argument("source", metavar="IN")
@click.option("-o", "--output", required=True, metavar="OUT", help='Cloud to write, "-": standard output.')
@click.option("--layers", type=click.IntRange(0), help="Use only the first so many layers.")
@click.option("--max-bytes", type=click.IntRange(0), help="Use only the first so many bytes.")
@click.option("--strict", is_flag=True, help="Refuse damaged streams (exit code 5).")
@click.option("--format", "format_", metavar="NAME", help="Format of OUT where its suffix does not tell it.")
def decode_command(
    source: str,
    output: str,
    layers: int | None,
    max_bytes: int | None,
    strict: bool,
    format_: str | None,
) -> None:
    """Restore the cloud of the stream IN, as well as its bytes allow.

    A damaged stream is decoded up to its last intact layer, with a warning, unless --strict.
    """
    if layers is not None and max_bytes is not None:
        raise click.UsageError("give only one of --layers and --max-bytes")
    refuse_terminal(output)
    data = read_stream(source)
    stream = container.parse(data)
    if stream.trailing:
        logger.warning("%s bytes behind the end of the stream are ignored", f"{stream.trailing:,}")
    from pccodec import codec, io

    points = codec.decode(data, layers=layers, max_bytes=max_bytes, strict=strict)
    grid = stream.header
    io.write(output, points, format_, tolerance=0.0 if grid.is_integer else grid.scale / 1024)
    logger.info("%s points", f"{len(points):,}")
