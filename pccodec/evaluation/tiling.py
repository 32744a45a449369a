"""What tiles cost: rate–distortion against the stream without tiles, and D1 near the faces of tiles.

``python -m pccodec.evaluation.tiling --cloud CLOUD.ply --tile-level 8 --json OUT.json``

Both streams are cut at the ends of their layers; all bytes count. Near are the points at most
``NEAR`` voxels from a plane between two tiles; the untiled stream's errors there show what the
shape of the cloud does.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from pykdtree.kdtree import KDTree

from pccodec import codec, container
from pccodec import io as files
from pccodec.codec.tile_encoder import encode_tiles
from pccodec.container import Stream
from pccodec.evaluation.bdrate import bd_rate, codec_curve
from pccodec.evaluation.command import command
from pccodec.evaluation.metrics import peak_of_depth, psnr
from pccodec.evaluation.report import source_commit
from pccodec.voxels import morton
from pccodec.voxels.grid import voxelize
from pccodec.voxels.tiles import split

NEAR = 8
"""Voxels from a plane between tiles within which points are near it."""


@dataclass(frozen=True)
class LayerEnd:
    """A prefix that ends with a layer.

    Attributes:
        layer: the layer.
        size: bytes of the prefix.
        points: decoded points.
        d1: D1 PSNR in dB.
        near: the same of the points near a plane between tiles.
        elsewhere: the same of the other points.
    """

    layer: str
    size: int
    points: int
    d1: float
    near: float
    elsewhere: float


class _Scene:
    """The voxels of a cloud and where its tiles meet.

    Args:
        voxels: int (n, 3), distinct.
        tile: edge of a tile.
        peak: peak value of the PSNRs.
    """

    def __init__(self, voxels: np.ndarray, tile: int, peak: int) -> None:
        self._voxels, self._tile, self._peak = voxels, tile, peak
        self._tree = KDTree(voxels.astype(np.float64))
        self._highest = voxels.max(axis=0)
        self._is_near = self._near(voxels)

    def _near(self, voxels: np.ndarray) -> np.ndarray:
        """Which voxels lie next to a plane between two tiles that both may hold voxels, bool (n,)."""
        shifted = voxels + NEAR
        plane = shifted // self._tile
        between = (plane > 0) & (plane * self._tile <= self._highest)
        near: np.ndarray = ((shifted % self._tile < 2 * NEAR) & between).any(axis=1)
        return near

    def quality(self, decoded: np.ndarray) -> tuple[float, float, float]:
        """D1 PSNR in dB of decoded voxels: all, near, elsewhere; NaN where there are none."""
        forward = KDTree(decoded.astype(np.float64)).query(self._voxels.astype(np.float64), sqr_dists=True)[0]
        backward = self._tree.query(decoded.astype(np.float64), sqr_dists=True)[0]
        near = self._near(decoded)

        def part(one: np.ndarray, other: np.ndarray) -> float:
            if not (one.any() and other.any()):
                return float("nan")
            return psnr(max(float(forward[one].mean()), float(backward[other].mean())), self._peak)

        everything = part(np.ones_like(self._is_near), np.ones_like(near))
        return everything, part(self._is_near, near), part(~self._is_near, ~near)


def _ends(stream: Stream) -> Iterator[tuple[str, int]]:
    for layer in stream.layers:
        yield layer.spec.name, layer.offset + layer.length


def measure(points: np.ndarray, level: int) -> dict[str, object]:
    """Compare the streams of a cloud with and without tiles.

    Args:
        points: (n, 3).
        level: T, tiles are cubes of edge ``2**T`` voxels.

    Returns:
        ``bd_rate`` in percent of all layer ends, ``bd_rate_surface`` of those from stride 8 on
        (NaN with fewer than two), ``bytes`` of both streams, ``worst_seam`` the most dB by which
        D1 near faces is below that elsewhere in layers from stride 8 on, beyond what the
        untiled stream shows there, and the layer ends of both.
    """
    grid, codes, _ = voxelize(points)
    with tempfile.TemporaryDirectory() as folder:
        file = io.BytesIO()
        encode_tiles(split(codes, grid, level, Path(folder)), file)
    streams = {"untiled": codec.encode(points, tile_points=None, ranks=(0, 0, 0)), "tiled": file.getvalue()}
    scene = _Scene(morton.decode(codes).astype(np.int64), 1 << level, peak_of_depth(grid.bits))
    ends: dict[str, list[LayerEnd]] = {}
    origin = np.array(grid.origin)
    for name, data in streams.items():
        ends[name] = []
        for layer, size in list(_ends(container.parse(data)))[:-1]:
            decoded = np.rint((codec.decode(data, max_bytes=size) - origin) / grid.scale).astype(np.int64)
            ends[name].append(LayerEnd(layer, size, len(decoded), *scene.quality(decoded)))
    fine = [index for index, end in enumerate(ends["tiled"]) if end.layer in ("G3", "G2", "G1")]
    seams = [_seam(ends["untiled"][index]) - _seam(ends["tiled"][index]) for index in fine]
    return {
        "tiles": len(np.unique(codes >> np.uint64(3 * level))),
        "bytes": {name: len(data) for name, data in streams.items()},
        "bd_rate": _bd(ends, range(len(ends["tiled"])), len(codes)),
        "bd_rate_surface": _bd(ends, fine, len(codes)),
        "worst_seam": max(seams),
        "ends": {name: [asdict(end) for end in part] for name, part in ends.items()},
    }


def _seam(end: LayerEnd) -> float:
    return end.near - end.elsewhere


def _bd(ends: dict[str, list[LayerEnd]], chosen: range | list[int], points: int) -> float:
    curves = []
    for name in ("untiled", "tiled"):
        part = [ends[name][index] for index in chosen]
        curves.append(codec_curve([8 * end.size / points for end in part], [end.d1 for end in part]))
    return bd_rate(*curves)


@command
def main(arguments: list[str] | None = None) -> None:
    """Measure and print as JSON."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--cloud", required=True, help="file of a cloud")
    parser.add_argument("--tile-level", type=int, required=True, help="tiles have an edge of 2**LEVEL voxels")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    options = parser.parse_args(arguments)
    result = {"commit": source_commit(), "cloud": Path(options.cloud).stem, "tile_level": options.tile_level}
    result |= measure(files.read(options.cloud).points, options.tile_level)
    text = json.dumps(result, indent=1)
    print(text)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
