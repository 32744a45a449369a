"""Options of commands that read streams: where they are, and which part of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import click

from pccodec import container
from pccodec.container import Stream

Command = TypeVar("Command", bound=Callable[..., object])

Corner = tuple[float, float, float]


class BoxType(click.ParamType):
    """Two corners of a box, as in ``0,0,0,10,20,5``."""

    name = "X0,Y0,Z0,X1,Y1,Z1"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Corner, Corner]:
        try:
            x0, y0, z0, x1, y1, z1 = (float(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not of six numbers like 0,0,0,10,20,5", param, ctx)
        low, high = (x0, y0, z0), (x1, y1, z1)
        if any(not math.isfinite(x) for x in low + high) or any(
            a > b for a, b in zip(low, high, strict=True)
        ):
            self.fail(f"{value!r} is no box: the first corner must be the lower one", param, ctx)
        return low, high


bbox_option = click.option(
    "--bbox",
    type=BoxType(),
    help="Only what lies in this box, faces included, in units of the input cloud.",
)

allow_partial_option = click.option(
    "--allow-partial",
    is_flag=True,
    help="Of a URL, use what arrived where the rest cannot be had, with a warning.",
)


def prefix_options(command: Command) -> Command:
    """``--layers`` and ``--max-bytes``; see ``prefix_of``."""
    command = click.option("--max-bytes", type=click.IntRange(0), help="Use only the first so many bytes.")(
        command
    )
    return click.option("--layers", type=click.IntRange(0), help="Use only the first so many layers.")(
        command
    )


def prefix_of(stream: Stream, layers: int | None, max_bytes: int | None) -> int:
    """Bytes of the stream that the options of ``prefix_options`` leave.

    Raises:
        click.UsageError: both are given.
        StreamError: they do not hold the header.
    """
    if layers is not None and max_bytes is not None:
        raise click.UsageError("give only one of --layers and --max-bytes")
    if layers is None and max_bytes is None:
        return stream.bytes_here
    return container.prefix_size(stream, layers=layers, max_bytes=max_bytes)
