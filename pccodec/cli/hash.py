"""``pccodec hash``, ``pccodec index`` and ``pccodec search``: find the same or similar shapes."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import click

from pccodec.errors import InputError, ModelError, PccodecError

logger = logging.getLogger(__name__)

_UP = click.Choice(["x", "y", "z"])
_IGNORE_SIZE = click.option("--ignore-size", is_flag=True, help="Let the same shape in any size match.")
_MODEL = click.option("--model", help="Name of a hashing model, or path of its .safetensors file.")
_FORMAT = click.option("--format", "format_", metavar="NAME", help="Format where a suffix does not tell it.")


@click.command("hash", short_help="Print the 64-bit hashes of clouds.")
@click.argument("clouds", metavar="CLOUD…", nargs=-1, required=True)
@click.option("--up", type=_UP, default="z", show_default=True, help="The axis that points up.")
@_IGNORE_SIZE
@_MODEL
@_FORMAT
def hash_command(
    clouds: Sequence[str], up: str, ignore_size: bool, model: str | None, format_: str | None
) -> None:
    """Print a hash and the name of each CLOUD, a line each.

    Clouds of the same shape have nearly the same bits. The first digits of a hash are a shorter hash:
    four of them are the 16 bits that serve best alone.
    """
    from pccodec import hashing, io

    network = hashing.load(model or hashing.DEFAULT)
    for cloud in clouds:
        code = network.code(io.read(cloud, format_).points, up, not ignore_size)
        click.echo(f"{code:016x}  {cloud}")


@click.command("index", short_help="Index clouds for search.")
@click.argument("sources", metavar="CLOUD_OR_DIR…", nargs=-1, required=True)
@click.option("-o", "--output", required=True, metavar="INDEX", help="Index to write.")
@click.option("--up", type=_UP, default="z", show_default=True, help="The axis that points up.")
@_IGNORE_SIZE
@_MODEL
@_FORMAT
def index_command(
    sources: Sequence[str],
    output: str,
    up: str,
    ignore_size: bool,
    model: str | None,
    format_: str | None,
) -> None:
    """Hash all clouds, those of a DIR and its folders included, into one file for search.

    A cloud of a DIR that cannot be read is left out with a warning; one that is named is an error.
    """
    from pccodec import hashing, io

    network = hashing.load(model or hashing.DEFAULT)
    names, codes = [], []
    for cloud, named in _clouds(sources, format_):
        try:
            codes.append(network.code(io.read(cloud, format_).points, up, not ignore_size))
        except PccodecError as error:
            if named:
                raise
            logger.warning("left out: %s", error)
            continue
        names.append(cloud)
    if not names:
        raise InputError(f"no clouds in {', '.join(sources)}")
    hashing.Index.of(names, codes, network.id, up, not ignore_size).save(output)
    logger.info("%s clouds indexed", f"{len(names):,}")


@click.command("search", short_help="Find the clouds most like one.")
@click.argument("index", metavar="INDEX")
@click.argument("query", metavar="QUERY")
@click.option("--bits", type=click.IntRange(1, 64), default=64, show_default=True, help="Compare so many.")
@click.option("--top", type=click.IntRange(1), default=10, show_default=True, help="Show so many.")
@click.option("--up", type=_UP, help="The axis of QUERY that points up.  [default: the index's]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_MODEL
@_FORMAT
def search_command(
    index: str,
    query: str,
    bits: int,
    top: int,
    up: str | None,
    as_json: bool,
    model: str | None,
    format_: str | None,
) -> None:
    """Print the clouds of INDEX that are most like the cloud QUERY, nearest first.

    Each line has the number of bits that differ, the hash and the name. Of clouds in which as many bits
    differ, those come first whose bits were the closest calls. The size counts unless INDEX was made
    with --ignore-size.
    """
    from pccodec import hashing, io

    network = hashing.load(model or hashing.DEFAULT)
    known = hashing.Index.load(index)
    if known.model != network.id:
        raise ModelError(
            f"{index} was made with the model {known.model.hex()}, not {network.id.hex()}: give its --model"
        )
    code, certainty = network.query(io.read(query, format_).points, up or known.up, known.sized)
    matches = known.search(code, top, bits, certainty)
    if as_json:
        rows = [{"distance": m.distance, "hash": f"{m.code:016x}", "name": m.name} for m in matches]
        click.echo(json.dumps({"hash": f"{code:016x}", "bits": bits, "matches": rows}, indent=1))
        return
    for match in matches:
        click.echo(f"{match.distance:2}  {match.code:016x}  {match.name}")


def _clouds(sources: Sequence[str], format_: str | None) -> list[tuple[str, bool]]:
    """The clouds of files and folders, and whether each was named itself.

    Raises:
        InputError: a source does not exist.
    """
    from pccodec import io

    found = []
    for source in sources:
        if Path(source).is_dir():
            inside = sorted(path for path in Path(source).rglob("*") if path.is_file())
            wanted = [path for path in inside if format_ or io.format_of_suffix(path)]
            found += [(str(path), False) for path in wanted]
        else:
            found.append((source, True))
    return found
