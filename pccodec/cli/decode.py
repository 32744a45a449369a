"""``pccodec decode``."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import click

from pccodec import container
from pccodec.cli.options import Box, Corner, allow_partial_option, prefix_of, prefix_options
from pccodec.cli.streams import reading, refuse_terminal
from pccodec.errors import InputError

if TYPE_CHECKING:
    import numpy as np

logger = logging.getLogger(__name__)


@click.command("decode", short_help="Restore a cloud from a stream, whole or cut.")
@click.argument("source", metavar="IN")
@click.option("-o", "--output", required=True, metavar="OUT", help='Cloud to write, "-": standard output.')
@prefix_options
@click.option(
    "--bbox",
    type=Box(),
    help="Only points in this box, faces included, in units of the input cloud; inf is no limit.",
)
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
        data = opened.read(0, prefix_of(stream, layers, max_bytes))
    from pccodec import codec, io

    points = codec.decode(data, strict=strict)
    if bbox is not None:
        points = _crop(points, *bbox)
    grid = stream.header
    io.write(output, points, format_, tolerance=0.0 if grid.is_integer else grid.scale / 1024)
    logger.info("%s points", f"{len(points):,}")


def _crop(points: np.ndarray, low: Corner, high: Corner) -> np.ndarray:
    """The points in a box, its faces included.

    Raises:
        InputError: there are none.
    """
    inside = points[((points >= low) & (points <= high)).all(axis=1)]
    if len(inside) == 0:
        ranges = ", ".join(f"{a:.9g} to {b:.9g}" for a, b in zip(points.min(0), points.max(0), strict=True))
        raise InputError(f"no point lies in the box: the cloud spans {ranges}")
    return inside
