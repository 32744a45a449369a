"""``pccodec decode``."""

from __future__ import annotations

import logging
from itertools import chain
from typing import TYPE_CHECKING

import click

from pccodec import container
from pccodec.cli.options import worker_options, workers
from pccodec.cli.stream_options import Corner, allow_partial_option, bbox_option, prefix_of, prefix_options
from pccodec.cli.streams import reading, refuse_terminal
from pccodec.errors import InputError
from pccodec.source import PrefixSource

if TYPE_CHECKING:
    from pccodec.voxels.grid import Grid

logger = logging.getLogger(__name__)


@click.command("decode", short_help="Restore a cloud from a stream, whole or cut.")
@click.argument("source", metavar="IN")
@click.option("-o", "--output", required=True, metavar="OUT", help='Cloud to write, "-": standard output.')
@prefix_options
@bbox_option
@click.option("--strict", is_flag=True, help="Refuse damaged streams (exit code 5).")
@allow_partial_option
@click.option("--format", "format_", metavar="NAME", help="Format of OUT where its suffix does not tell it.")
@worker_options
def decode_command(
    source: str,
    output: str,
    layers: int | None,
    max_bytes: int | None,
    bbox: tuple[Corner, Corner] | None,
    strict: bool,
    allow_partial: bool,
    format_: str | None,
    jobs: int,
    scheduler: str | None,
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
        from pccodec import io
        from pccodec.codec.region import Box, decode_parts
        from pccodec.voxels.grid import Grid

        header = stream.header
        grid = Grid(header.origin, header.scale, header.depth, header.is_integer)
        box = Box(*bbox) if bbox else None
        with workers(jobs, scheduler) as team:
            parts = decode_parts(prefix, box=box, strict=strict, workers=team)
            # Nothing is opened for writing before there is a point.
            first = next((part for part in parts if len(part)), None)
            if first is None:
                raise _nothing_in_the_box(grid)
            if header.tiles is None:
                io.write(output, first, format_, tolerance=0.0 if grid.is_integer else grid.tolerance)
                count = len(first)
            else:
                with io.open_writer(output, grid.spec(), format_) as writer:
                    for part in chain([first], parts):
                        writer.write(part)
                count = writer.count
    logger.info("%s points", f"{count:,}")


def _nothing_in_the_box(grid: Grid) -> InputError:
    import numpy as np

    low, high = grid.points(np.array([0, (1 << 3 * grid.bits) - 1], dtype=np.uint64))
    ranges = ", ".join(f"{a:.9g} to {b:.9g}" for a, b in zip(low, high, strict=True))
    return InputError(f"no point lies in the box: all lie within {ranges}")
