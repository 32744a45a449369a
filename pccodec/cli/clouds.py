"""Clouds that arguments of commands stand for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click


def cloud_files(clouds: Sequence[Path]) -> list[Path]:
    """The files that the arguments stand for, each with a name of its own; a directory stands for its clouds.

    Raises:
        click.UsageError: a directory has no clouds, or two files differ in nothing but their suffix.
    """
    from pccodec.io import format_names

    # In a directory of clouds, CSV files are tables of results rather than points.
    suffixes = {f".{name}" for name in format_names()} - {".csv"}
    paths: list[Path] = []
    for cloud in clouds:
        found = [cloud]
        if cloud.is_dir():
            found = sorted(path for path in cloud.iterdir() if path.suffix.lower() in suffixes)
            if not found:
                raise click.UsageError(f"no clouds in the directory {cloud}")
        paths += found
    name, count = Counter(path.stem for path in paths).most_common(1)[0]
    if count > 1:
        raise click.UsageError(f"{count} of the clouds are named {name}")
    return paths
