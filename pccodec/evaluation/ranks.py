"""What the latent ranks are worth: ``python -m pccodec.evaluation.ranks CLOUD… --json FILE``.

Each cloud is encoded once for every setting of ranks (at strides 8, 4 and 2). Its stream is
decoded behind each layer from the base layer on, and at quarters of the geometry layers, since
a cut inside a geometry layer is what ranks have to beat. The BD-rate of each setting against
``0,0,0`` is the test of the latents.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from pccodec import codec, container, io
from pccodec.evaluation.bdrate import anchor_curve, bd_rate, codec_curve
from pccodec.evaluation.command import command
from pccodec.evaluation.metrics import Reference, table_psnr
from pccodec.evaluation.summary import clouds_parser, summarize

QUARTERS = (0.25, 0.5, 0.75)
NONE = "0,0,0"


def measure(
    points: np.ndarray, reference: Reference, setting: str, model: str | None
) -> list[dict[str, Any]]:
    """Rows of cut, bytes up to it and D1 there, from the end of ``G_3`` on; the whole stream is left out."""
    k3, k2, k1 = (int(count) for count in setting.split(","))
    data = codec.encode(points, model=model, ranks=(k3, k2, k1))
    rows = []
    for layer in container.parse(data).layers:
        fine = layer.spec.level <= 2 and layer.spec.kind == "G"
        if layer.spec.level > 3:
            continue
        for share in (*(QUARTERS if fine else ()), *((1.0,) if layer.spec.name != "G0" else ())):
            size = layer.offset + round(share * layer.length)
            quality = table_psnr(reference.compare(codec.decode(data[:size])).d1_psnr)
            rows.append({"cut": layer.spec.name, "share": share, "bytes": size, "d1_psnr": round(quality, 3)})
    return rows


@command
def main(arguments: list[str] | None = None) -> None:
    """Print the BD-rates of all clouds and settings, and write them with their cuts as JSON."""
    parser = clouds_parser("What the latent ranks are worth.")
    parser.add_argument("--settings", nargs="+", default=["1,0,0", "4,2,1"], help="Ranks at strides 8, 4, 2.")
    parser.add_argument("--model")
    options = parser.parse_args(arguments)
    found: list[dict[str, Any]] = []
    for cloud in options.clouds:
        points = io.read(cloud).points
        reference = Reference(points)
        base: list[dict[str, Any]] = []
        for setting in [NONE, *options.settings]:
            rows = measure(points, reference, setting, options.model)
            base = base or rows
            rate = bd_rate(
                anchor_curve([row["bytes"] for row in base], [row["d1_psnr"] for row in base]),
                codec_curve([row["bytes"] for row in rows], [row["d1_psnr"] for row in rows]),
            )
            print(f"{cloud.stem:20} {setting:8} {rate:8.2f} %", flush=True)
            found.append({"cloud": cloud.stem, "ranks": setting, "bd_rate_d1": round(rate, 2), "cuts": rows})
    summarize(found, "bd_rate_d1", options.json, by="ranks")


if __name__ == "__main__":
    sys.exit(main())
