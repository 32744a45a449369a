"""A plain embedded octree codec, to test the evaluation without a model."""

from __future__ import annotations

import zlib

import numpy as np

from pccodec.evaluation.curves import Layout
from pccodec.voxels import morton, octree

DEPTH = 6
HEADER = 2 * DEPTH


class OctreeCodec:
    """Deflated occupancy, level by level: a small embedded stream to measure."""

    def encode(self, points: np.ndarray) -> bytes:
        tree = octree.Octree.build(np.unique(morton.encode(points)), DEPTH)
        layers = [zlib.compress(level.tobytes(), 9) for level in reversed(tree.occupancy)]
        return b"".join(len(layer).to_bytes(2, "big") for layer in layers) + b"".join(layers)

    def decode(self, data: bytes, max_bytes: int) -> np.ndarray:
        codes = np.zeros(1, dtype=np.uint64)
        level, start = DEPTH, HEADER
        for end in self.layout(data).ends:
            if end > max_bytes:
                break
            codes = octree.expand(codes, np.frombuffer(zlib.decompress(data[start:end]), dtype=np.uint8))
            level, start = level - 1, end
        return (morton.decode(codes) << level) + (1 << level >> 1)

    def layout(self, data: bytes) -> Layout:
        lengths = np.frombuffer(data[:HEADER], dtype=">u2").astype(int)
        names = tuple(f"G{level}" for level in reversed(range(DEPTH)))
        return Layout(names, tuple((HEADER + np.cumsum(lengths)).tolist()), depth=DEPTH, model_id="none")
