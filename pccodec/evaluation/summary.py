"""What the commands that measure several clouds share: their arguments, their mean, their JSON."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


def clouds_parser(description: str) -> argparse.ArgumentParser:
    """A parser that takes clouds and ``--json FILE``."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("clouds", nargs="+", type=Path)
    parser.add_argument("--json", type=Path, help="file to write the rows to")
    return parser


def summarize(rows: Sequence[dict[str, Any]], key: str, file: Path | None, by: str | None = None) -> None:
    """Print the mean of a column in percent, and write all rows as JSON if a file is given.

    Args:
        rows: one a cloud and setting.
        key: column of the mean.
        file: where to write the rows.
        by: column of the setting, if there are several; each gets its own mean.
    """
    for label in dict.fromkeys(row[by] if by else "" for row in rows):
        values = [row[key] for row in rows if by is None or row[by] == label]
        print(f"{'mean':20} {label:8} {np.mean(values):8.2f} %")
    if file:
        file.write_text(json.dumps(list(rows), indent=1) + "\n")
