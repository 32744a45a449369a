"""``make demo``: one cloud, one stream, many cuts."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from pccodec import codec, container, io
from pccodec.errors import PccodecError
from pccodec.evaluation.command import command
from pccodec.evaluation.metrics import Reference, table_psnr

SAMPLE = Path(__file__).parents[2] / "data" / "human_vox9.ply"

FRACTIONS = (0.001, 0.005, 0.02, 0.1, 0.5)
"""Parts of the stream at which it is also cut, wherever in a layer that may be."""


@command
def main(arguments: list[str] | None = None) -> None:
    """Encode a cloud once, decode prefixes of the stream, and show what each is worth."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("cloud", nargs="?", type=Path, default=SAMPLE)
    parser.add_argument("-o", "--output", type=Path, default=Path("out"), help="folder for the results")
    options = parser.parse_args(arguments)
    console = Console(highlight=False)
    run(options.cloud, options.output, console)


def run(cloud: Path, output: Path, console: Console) -> None:
    """Write the stream and three decoded clouds to ``output`` and print a table of the cuts.

    Raises:
        PccodecError: the cloud cannot be encoded, or the whole stream does not give it back.
    """
    points = io.read(cloud).points
    started = time.perf_counter()
    data = codec.encode(points)
    console.print(f"{cloud.name}: {len(points):,} points, {time.perf_counter() - started:.1f} s to encode")
    output.mkdir(parents=True, exist_ok=True)
    (output / f"{cloud.stem}.pcc").write_bytes(data)

    stream = container.parse(data)
    header = stream.header
    peak = None if header.is_integer else header.scale * (2**header.depth - 1)
    reference = Reference(points, peak=peak)
    table = Table(title="Prefixes of one stream", box=box.SIMPLE_HEAD)
    for title in ("bytes", "bpp", "ends in", "points", "D1 PSNR (dB)", "seconds"):
        table.add_column(title, justify="left" if title == "ends in" else "right")
    for size in cuts(stream):
        started = time.perf_counter()
        decoded = codec.decode(data[:size])
        seconds = time.perf_counter() - started
        quality = reference.compare(decoded).d1_psnr
        table.add_row(
            f"{size:,}",
            f"{8 * size / len(points):.4f}",
            place(stream, size),
            f"{len(decoded):,}",
            "lossless" if np.isinf(quality) else f"{table_psnr(quality):.2f}",
            f"{seconds:.1f}",
        )
        io.write(output / f"{cloud.stem}_{size}.ply", decoded)
    console.print(table)
    if header.is_integer:
        if not np.array_equal(np.unique(decoded, axis=0), np.unique(points, axis=0)):
            raise PccodecError("the whole stream did not give the cloud back")
        console.print("The whole stream gives exactly the points of the input.")
    console.print(f"Stream and decoded clouds: {output}/{cloud.stem}*")


def cuts(stream: container.Stream) -> list[int]:
    """Sizes at which the demo cuts: the ends of the layers from stride 16 on, and some bytes between."""
    ends = {layer.end for layer in stream.layers if layer.spec.level <= 3}
    between = {int(part * stream.bytes_here) for part in FRACTIONS}
    return sorted(ends | {size for size in between if size >= stream.header_size})


def place(stream: container.Stream, size: int) -> str:
    """The layer in which a prefix of ``size`` bytes ends."""
    for layer in stream.layers:
        if size < layer.end:
            return f"within {layer.spec.name}" if size > layer.offset else f"start of {layer.spec.name}"
        if size == layer.end:
            return layer.spec.name
    raise ValueError(f"the stream has only {stream.bytes_here} bytes")


if __name__ == "__main__":
    sys.exit(main())
