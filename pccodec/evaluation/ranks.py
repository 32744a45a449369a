"""What the latent ranks are worth: ``python -m pccodec.evaluation.ranks CLOUD… --json FILE``.

Each cloud is encoded once for every setting of ranks (at strides 8, 4 and 2). Its stream is
decoded behind each layer from the base layer on, and at quarters of the geometry layers, since
a cut inside a geometry layer is what ranks have to beat. The BD-rate of each setting against
``0,0,0`` is the test of the latents. How far ranks could come is bounded by streams that do not
exist (:func:`bounds`). Of the ranks of stride 8 it is also said what they raise D1
by over the base layer alone, and what they and ``G_2`` without them take.
"""

from __future__ import annotations

import sys
from itertools import pairwise
from typing import Any

import numpy as np

from pccodec import codec, container, io
from pccodec.evaluation.bdrate import anchor_curve, bd_rate, codec_curve
from pccodec.evaluation.command import command
from pccodec.evaluation.metrics import Reference, psnr, table_psnr
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
            error = reference.d1_mse(codec.decode(data[:size]))
            quality = table_psnr(psnr(error, reference.peak))
            rows.append({"cut": layer.spec.name, "share": share, "bytes": size, "d1_psnr": round(quality, 3)})
    return rows


def _stride_8(base: list[dict[str, Any]], rows: list[dict[str, Any]]) -> dict[str, float]:
    """Gain of all ranks of stride 8 in dB, their bytes, and those of ``G_2`` without; empty without ranks."""
    ranks = [row for row in rows if row["cut"].startswith("R3")]
    if not ranks:
        return {}
    plain = next(row for row in base if row["cut"] == "G2" and row["share"] == 1)
    start = next(row for row in rows if row["cut"] == "G3")
    return {
        "stride_8_gain": round(ranks[-1]["d1_psnr"] - start["d1_psnr"], 3),
        "stride_8_bytes": ranks[-1]["bytes"] - start["bytes"],
        "g2_bytes": plain["bytes"] - base[0]["bytes"],
    }


def bounds(base: list[dict[str, Any]]) -> dict[str, float]:
    """BD-rates against a stream without ranks of streams that ranks could make of it at best, in percent.

    Of all of them the layers end where those of the stream without ranks end: the geometry layers give
    back every byte of the ranks. ``linear``: within ``G_2`` and ``G_1`` the PSNR rises evenly with the bytes.
    ``half``: after half of the bytes of ``G_2`` the quality is that of its end, within 0.1 dB.
    """
    ends = [row for row in base if row["share"] == 1.0]
    last = [row for row in base if row["cut"] == "G0"]
    linear = [
        {name: low[name] + share * (high[name] - low[name]) for name in ("bytes", "d1_psnr")}
        for low, high in pairwise(ends)
        for share in (0.0, *QUARTERS)
    ]
    middle = {"bytes": (ends[0]["bytes"] + ends[1]["bytes"]) / 2, "d1_psnr": ends[1]["d1_psnr"] - 0.1}
    behind = [row for row in base if row["bytes"] >= ends[1]["bytes"]]
    return {
        "bound_linear": round(_rate(base, [*linear, ends[-1], *last]), 2),
        "bound_half": round(_rate(base, [ends[0], middle, *behind]), 2),
    }


def _rate(base: list[dict[str, Any]], rows: list[dict[str, Any]]) -> float:
    """D1 BD-rate in percent."""
    return bd_rate(
        anchor_curve([row["bytes"] for row in base], [row["d1_psnr"] for row in base]),
        codec_curve([row["bytes"] for row in rows], [row["d1_psnr"] for row in rows]),
    )


@command
def main(arguments: list[str] | None = None) -> None:
    """Print the BD-rates of all clouds and settings, and write them with their cuts as JSON."""
    parser = clouds_parser("What the latent ranks are worth.")
    parser.add_argument(
        "--settings", nargs="+", default=["1,0,0", "2,0,0", "2,1,1"], help="Ranks at strides 8, 4, 2."
    )
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
            rate = _rate(base, rows)
            print(f"{cloud.stem:20} {setting:8} {rate:8.2f} %", flush=True)
            row = {"cloud": cloud.stem, "ranks": setting, "bd_rate_d1": round(rate, 2)}
            extra = bounds(base) if setting == NONE else _stride_8(base, rows)
            found.append({**row, **extra, "cuts": rows})
    summarize(found, "bd_rate_d1", options.json, by="ranks")


if __name__ == "__main__":
    sys.exit(main())
