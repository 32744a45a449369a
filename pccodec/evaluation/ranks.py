"""What each latent rank is worth: ``python -m pccodec.evaluation.ranks CLOUD… --json FILE``.

Every rank of the model is sent, whether it pays or not, and the stream is decoded behind each
layer from the base layer on: the ranks' gain in D1 and their bytes stand beside those of the
geometry layer that follows.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from pccodec import codec, container, io
from pccodec.evaluation.metrics import Reference, table_psnr
from pccodec.model import store
from pccodec.model.config import LATENT_LEVELS


def measure(cloud: Path, model: str | None = None) -> list[dict[str, Any]]:
    """Rows of layer, bytes and D1 behind it, from ``G_3`` to the last layer before ``G_0``."""
    points = io.read(cloud).points
    loaded = store.load(model or store.DEFAULT)
    k3, k2, k1 = (loaded.config.ranks[level] for level in LATENT_LEVELS)
    data = codec.encode(points, model=model, ranks=(k3, k2, k1))
    reference = Reference(points)
    rows = []
    for count, layer in enumerate(container.parse(data).layers, start=1):
        if 1 <= layer.spec.level <= 3 or (layer.spec.kind == "R"):
            quality = reference.compare(codec.decode(data, layers=count)).d1_psnr
            rows.append(
                {
                    "cloud": cloud.stem,
                    "layer": layer.spec.name,
                    "bytes": layer.length,
                    "d1_psnr": round(table_psnr(quality), 3),
                }
            )
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Print the rows of all clouds and write them as JSON."""
    parser = argparse.ArgumentParser(description="Gain and cost of each latent rank.")
    parser.add_argument("clouds", nargs="+", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    rows = []
    for cloud in options.clouds:
        for row in measure(cloud, options.model):
            print(f"{row['cloud']:20} {row['layer']:6} {row['bytes']:8} {row['d1_psnr']:8.2f}", flush=True)
            rows.append(row)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
