"""``pccodec decode``."""

from __future__ import annotations

import logging

import click

from pccodec import container
from pccodec.cli.stream_options import Corner, allow_partial_option, bbox_option, prefix_of, prefix_options
from pccodec.cli.streams import reading, refuse_terminal
from pccodec.errors import InputError
from pccodec.source import PrefixSource

logger = logging.getLogger(__name__)


@click.command("decode", short_help="Restore a cloud from a stream, whole or cut.")
@click.argument("source", metavar="IN")
@click.option("-o", "--output", required=True, metavar="OUT", help='Cloud to write, "-": standard output.')
@prefix_options
@bbox_option
@click.option("--strict", is_flag=True, help="Refuse damaged streams (exit code 5).")
@allow_partial_option
@click.option("--format", "format_", metavar="NAME", help="Format of OUT where its suffix does not tell it.")
def decode_command(
    source: str,
    output: str,
    layers: int | None,
    max_bytes: int | None,
    bbox: tuple[Corner, Corner] | None,
    strict: bool,
    allow_partial: bool,
    format_: str | None,
) -> None:
    """Restore the cloud of the stream IN, a file or a URL, as well as its bytes allow.

    Of a URL only the bytes that are needed are fetched. A damaged stream is decoded up to its last
    intact layer, with a warning, unless --strict.
    """
    refuse_terminal(output)
    with reading(source, allow_partial) as opened:
        stream = container.parse_source(opened)
        if stream.trailing:
            logger.warning("%s bytes behind the end of the stream are ignored", f"{stream.trailing:,}")
        prefix = PrefixSource(opened, prefix_of(stream, layers, max_bytes))
        import numpy as np

        from pccodec import io
        from pccodec.codec.region import Box, decode_parts

        box = Box(*bbox) if bbox else None
        points = np.concatenate(list(decode_parts(prefix, box=box, strict=strict)))
    header = stream.header
    if bbox is not None and len(points) == 0:
        far = [start + header.scale * ((1 << header.depth) - 1) for start in header.origin]
        ranges = ", ".join(f"{a:.9g} to {b:.9g}" for a, b in zip(header.origin, far, strict=True))
        raise InputError(f"no point lies in the box: all lie within {ranges}")
    io.write(output, points, format_, tolerance=0.0 if header.is_integer else header.scale / 1024)
    logger.info("%s points", f"{len(points):,}")
