"""``pccodec info``. Imports neither numpy nor torch: it answers at once."""

from __future__ import annotations

import json
from itertools import zip_longest
from typing import Any

import click

from pccodec import container
from pccodec.cli.stream_options import Corner, allow_partial_option, bbox_option, prefix_of, prefix_options
from pccodec.cli.streams import reading
from pccodec.cli.tables import show
from pccodec.source import PrefixSource, Source


@click.command("info", short_help="Show what a stream holds, layer by layer.")
@click.argument("source", metavar="IN")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@prefix_options
@bbox_option
@allow_partial_option
def info_command(
    source: str,
    as_json: bool,
    layers: int | None,
    max_bytes: int | None,
    bbox: tuple[Corner, Corner] | None,
    allow_partial: bool,
) -> None:
    """Show the header of the stream IN, a file or a URL, and its layers. Only the header is read.

    With --layers or --max-bytes the stream is shown as if it were cut there; with --bbox also how
    many tiles and bytes decode --bbox needs, for which the directories of the tiles are read.
    Cumulative bytes and bits per point count the header in; points are those of the whole cloud,
    duplicates merged.
    """
    with reading(source, allow_partial) as opened:
        stream = container.parse_source(opened)
        if layers is not None or max_bytes is not None:
            opened = PrefixSource(opened, prefix_of(stream, layers, max_bytes))
            stream = container.parse_source(opened)
        facts = describe(stream)
        if bbox is not None:
            facts["box"] = _describe_box(opened, stream, bbox)
    if as_json:
        click.echo(json.dumps(facts, indent=1))
    else:
        _print_tables(facts)


def describe(stream: container.Stream) -> dict[str, Any]:
    """All facts of a stream as JSON types.

    Sizes are in bytes, rates in bits per distinct point. ``layers`` hold one record each, with
    ``bytes`` declared and ``bytes_here``, which is less in a cut stream. What is behind the base layer
    is announced there: of a stream that is cut before, it is None, as is the size of the whole.
    """
    header = stream.header
    points = header.counts[0]
    layers = []
    for spec, layer in zip_longest(header.layers, stream.layers):
        layers.append(
            {
                "name": spec.name,
                "kind": "geometry" if spec.kind == "G" else "latent rank",
                "stride": spec.stride,
                "rank": spec.rank or None,
                "bytes": layer.length if layer else None,
                "bytes_here": layer.arrived if layer else 0,
                "cumulative_bytes": layer.end if layer else None,
                "cumulative_bpp": 8 * layer.end / points if layer else None,
            }
        )
    return {
        "format_version": container.FORMAT_VERSION,
        "model_id": header.model_id.hex(),
        "bit_depth": header.depth,
        "points": points,
        "counts": {str(1 << level): count for level, count in enumerate(header.counts)},
        "origin": list(header.origin),
        "voxel_size": header.scale,
        "is_integer": header.is_integer,
        "header_bytes": stream.header_size,
        "bytes": stream.size,
        "bytes_here": stream.bytes_here,
        "trailing_bytes": stream.trailing,
        "bpp": None if stream.size is None else 8 * stream.size / points,
        "is_complete": stream.complete,
        "layers": layers,
    }


def _describe_box(source: Source, stream: container.Stream, corners: tuple[Corner, Corner]) -> dict[str, int]:
    """Tiles in a box, all tiles, and bytes that ``decode --bbox`` needs."""
    if stream.header.tiles is None:
        return {"tiles": 1, "all_tiles": 1, "bytes": stream.bytes_here}
    from pccodec.codec.region import Box
    from pccodec.codec.tile_stream import TileStream

    tiles = TileStream(source)
    if tiles.tiles is None:
        return {"tiles": 1, "all_tiles": 1, "bytes": stream.bytes_here}
    selected = tiles.select(*Box(*corners).voxels(tiles.grid)).tolist()
    return {"tiles": len(selected), "all_tiles": len(tiles.tiles), "bytes": tiles.bytes_for(selected)}


def _print_tables(facts: dict[str, Any]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    grid = "integer" if facts["is_integer"] else f"voxels of {facts['voxel_size']:.9g}"
    state = "complete" if facts["is_complete"] else f"cut, {facts['bytes_here']:,} bytes are here"
    head = Table.grid(padding=(0, 2))
    head.add_row("points", f"{facts['points']:,} in {facts['bit_depth']} bits an axis")
    head.add_row("grid", f"{grid}, origin {' '.join(f'{x:.9g}' for x in facts['origin'])}")
    head.add_row("nodes", ", ".join(f"{n:,} at stride {s}" for s, n in facts["counts"].items()))
    head.add_row("model", facts["model_id"])
    whole = "unknown" if facts["bytes"] is None else f"{facts['bytes']:,} bytes, {facts['bpp']:.4f} bpp"
    head.add_row("size", f"{whole}, {state}")
    if facts["trailing_bytes"]:
        head.add_row("", f"{facts['trailing_bytes']:,} bytes behind its end are no part of the stream")
    if "box" in facts:
        part = facts["box"]
        head.add_row("box", f"{part['tiles']:,} of {part['all_tiles']:,} tiles, {part['bytes']:,} bytes")
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("", "layer", "stride", "rank", "bytes", "cumulative", "bpp", "here"):
        table.add_column(title, justify="left" if title in ("layer", "here") else "right")
    header_bytes = facts["header_bytes"]
    bpp = 8 * header_bytes / facts["points"]
    table.add_row("0", "header", "", "", f"{header_bytes:,}", f"{header_bytes:,}", f"{bpp:.4f}", "all")
    for number, layer in enumerate(facts["layers"], 1):
        table.add_row(
            str(number),
            layer["kind"],
            str(layer["stride"]),
            str(layer["rank"] or ""),
            *_sizes(layer),
        )
    show(Console(highlight=False, soft_wrap=True), head, table)


def _sizes(layer: dict[str, Any]) -> tuple[str, str, str, str]:
    """Bytes of a layer, those up to its end, the rate there, and how many of its bytes are here."""
    arrived, declared = layer["bytes_here"], layer["bytes"]
    if declared is None:
        return "?", "?", "?", "none"
    here = "all" if arrived == declared else f"{arrived:,}" if arrived else "none"
    return f"{declared:,}", f"{layer['cumulative_bytes']:,}", f"{layer['cumulative_bpp']:.4f}", here
