"""Bytes of the geometry layers of clouds, level by level, against G-PCC's lossless octree.

python -m pccodec.evaluation.geometry_size CLOUD_OR_DIR… --model FILE [--anchors CSV] [--json F] [--decode]
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from safetensors.numpy import load_file

from pccodec.entropy.geometry import LevelContext, decode_level, encode_level
from pccodec.evaluation.command import command
from pccodec.model.occupancy import OccupancyNetwork
from pccodec.sparse import neighbors as maps
from pccodec.voxels import morton
from pccodec.voxels.octree import Octree

GROUPS = {
    "dense": [
        "armadillo_vox10",
        "bunny_vox10",
        "face_vox9",
        "horse_vox10",
        "human0_vox10",
        "human1_vox10",
        "human2_vox10",
        "owl_vox9",
    ],
    "noisy": ["kinect_office_vox10", "gargoyle_vox8"],
    "sparse": ["als_autzen", "kitti_raw0_2cm"],
}
"""The evaluation clouds by how they were captured."""


def read_codes(file: Path) -> tuple[np.ndarray, int]:
    """Sorted Morton codes uint64 of an integer cloud's points, and the bit depth that holds them."""
    # Imported late: the readers bring packages that a test of the coder does not need.
    from pccodec.io import read

    points = np.asarray(read(file).points).astype(np.int64)
    points = points - np.minimum(points.min(axis=0), 0)
    return np.unique(morton.encode(points)), max(1, int(points.max()).bit_length())


def measure(network: OccupancyNetwork, codes: np.ndarray, depth: int, decode: bool) -> dict[str, Any]:
    """Bytes of each layer (entry ``l`` is ``G_l``) and CPU-seconds of a cloud.

    With ``decode`` each layer is decoded too and compared.
    """
    octree = Octree.build(codes, depth)
    counts = {level: len(nodes) for level, nodes in enumerate(octree.codes)}
    neighbors = maps.root_map()
    sizes, encode_s, decode_s = [0] * depth, 0.0, 0.0
    for level in range(depth - 1, -1, -1):
        context = LevelContext(neighbors, level, counts, octree.codes[level + 1])
        begin = time.process_time()
        data = encode_level(network, context, octree.occupancy[level])
        encode_s += time.process_time() - begin
        sizes[level] = len(data)
        if decode:
            begin = time.process_time()
            occupancy, _ = decode_level(network, context, data, complete=True)
            decode_s += time.process_time() - begin
            if not np.array_equal(occupancy, octree.occupancy[level]):
                raise AssertionError(f"layer G_{level} does not decode to what was encoded")
        if level:
            neighbors = maps.child_map(neighbors, octree.occupancy[level])
    return {
        "points": len(codes),
        "layers": sizes,
        "bytes": sum(sizes),
        "encode_cpu_s": round(encode_s, 3),
        "decode_cpu_s": round(decode_s, 3),
    }


def lossless_bytes(anchors: Path) -> dict[str, float]:
    """G-PCC's lossless octree bytes by cloud, from the anchor table."""
    with anchors.open() as handle:
        rows = [
            row for row in csv.DictReader(handle) if row["codec"] == "gpcc-octree" and row["param"] == "1"
        ]
    return {row["cloud"]: float(row["bpp"]) * int(row["points"]) / 8 for row in rows}


def report(results: dict[str, dict[str, Any]], console: Console) -> None:
    """Print a table of the results, with the mean of each group of evaluation clouds."""
    table = Table("cloud", "points", "G_0", "G_1", "G_2", "G_3+", "bytes", "vs G-PCC", "enc s", "dec s")
    for name, row in results.items():
        layers = row["layers"]
        ratio = f"{row['vs_gpcc_percent']:+.1f} %" if "vs_gpcc_percent" in row else ""
        cells = [name, row["points"], *(layers + [0, 0, 0])[:3], sum(layers[3:]), row["bytes"], ratio]
        table.add_row(*map(str, cells), f"{row['encode_cpu_s']:.2f}", f"{row['decode_cpu_s']:.2f}")
    console.print(table)
    for group, names in GROUPS.items():
        found = [results[n]["vs_gpcc_percent"] for n in names if "vs_gpcc_percent" in results.get(n, {})]
        if found:
            console.print(f"mean of {len(found)} {group}: {np.mean(found):+.2f} %")


@command
def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clouds", type=Path, nargs="+", help="cloud files, or folders of .ply files")
    parser.add_argument(
        "--model", type=Path, required=True, help="safetensors file with the geometry network"
    )
    parser.add_argument("--anchors", type=Path, help="table with G-PCC's results (gpcc.csv)")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    parser.add_argument("--decode", action="store_true", help="decode every layer too, and compare")
    args = parser.parse_args()
    network = OccupancyNetwork.from_tensors(load_file(args.model))
    anchors = lossless_bytes(args.anchors) if args.anchors else {}
    files = [f for path in args.clouds for f in (sorted(path.glob("*.ply")) if path.is_dir() else [path])]
    results: dict[str, dict[str, Any]] = {}
    for file in files:
        row = measure(network, *read_codes(file), args.decode)
        row["bpp"] = round(8 * row["bytes"] / row["points"], 5)
        if file.stem in anchors:
            row["gpcc_bytes"] = round(anchors[file.stem])
            row["vs_gpcc_percent"] = round(100 * (row["bytes"] / anchors[file.stem] - 1), 2)
        results[file.stem] = row
    report(results, Console())
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
