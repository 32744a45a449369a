"""Analysis transform: the latent of a level from the true geometry below it.

It reads explicit shape descriptors (which cells two levels below a node are
filled, and how full) beside the synthesis transform's own context, so that the
latent holds what the context cannot tell: the innovation. It only chooses which
symbols are sent, so it computes in floats; it runs in the encoder alone.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pccodec.model.config import LATENT_LEVELS, LIMIT, ModelConfig
from pccodec.model.stream import STREAM_BITS
from pccodec.sparse.integer import node_blocks, require, with_absent
from pccodec.sparse.neighbors import KERNEL
from pccodec.voxels import octree

DESCRIPTOR = {3: 64, 2: 64, 1: 8}
"""Entries of the shape descriptor by level."""
TENSOR_PREFIX = "analysis."


def descriptor(tree: octree.Octree, level: int) -> np.ndarray:
    """Shape descriptors, float32 (n, d), of the nodes of ``X_level``.

    Level 3: how full each of the 4x4x4 cells of stride 2 is, 0…1. Level 2: which
    of the 4x4x4 voxels are occupied. Level 1: which of the 8 voxels are.
    """
    if level == 1:
        return octree.unpack(tree.occupancy[0]).astype(np.float32)
    cells = tree.codes[level - 2]
    filled: np.ndarray | float = 1.0
    if level == 3:
        filled = octree.POPCOUNT[tree.occupancy[0]] / 8.0
    node = np.searchsorted(tree.codes[level], cells >> np.uint64(6))
    out = np.zeros((len(tree.codes[level]), 64), dtype=np.float32)
    out[node, (cells & np.uint64(63)).astype(np.int64)] = filled
    return out


def _convolved(
    features: np.ndarray, weight: np.ndarray, bias: np.ndarray, neighbors: np.ndarray
) -> np.ndarray:
    """3x3x3 convolution of ``relu(features)``, fp32 (n, C), with weight (27, C, C') over a map (n, 27)."""
    table = with_absent(np.maximum(features, 0))
    kernel = weight.reshape(-1, weight.shape[2])
    out = np.empty((len(features), weight.shape[2]), dtype=np.float32)
    for nodes in node_blocks(len(features), channels=features.shape[1]):
        rows = np.take(table, neighbors[nodes].astype(np.intp), axis=0)
        np.matmul(rows.reshape(len(rows), -1), kernel, out=out[nodes])
    return out + bias


class LevelAnalysis:
    """Analysis transform of one level; immutable.

    Args:
        tensors: those of a model file.
        level: 3, 2 or 1.
        config: shape of the network.

    Raises:
        ModelError: if tensors are missing or have the wrong shape.
    """

    def __init__(self, tensors: Mapping[str, np.ndarray], level: int, config: ModelConfig) -> None:
        width, prefix = config.analysis_channels, f"{TENSOR_PREFIX}{level}."

        def take(name: str, *shape: int) -> tuple[np.ndarray, np.ndarray]:
            weight, bias = (tensors.get(f"{prefix}{name}.{part}") for part in ("weight", "bias"))
            require(prefix + name, weight is not None and bias is not None and weight.shape == shape)
            assert weight is not None and bias is not None
            return weight.astype(np.float32), bias.astype(np.float32)

        self._wide = take("shape.0", width, DESCRIPTOR[level])
        self._shape = take("shape.2", width, width)
        self._context = take("context", width, config.channels[level])
        self._blocks = [
            tuple(take(f"blocks.{i}.{name}", KERNEL, width, width) for name in ("first", "second"))
            for i in range(config.analysis_blocks)
        ]
        self._latent = take("latent", config.ranks[level], width)

    def __call__(self, shape: np.ndarray, context: np.ndarray, neighbors: np.ndarray) -> np.ndarray:
        """Ranks int8 (n, K) in -LIMIT…LIMIT.

        Args:
            shape: descriptors, float32 (n, d).
            context: the synthesis transform's context stream, int16 (n, C).
            neighbors: int32 (n, 27).
        """

        def linear(x: np.ndarray, layer: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
            return x @ layer[0].T + layer[1]

        told = context.astype(np.float32) / (1 << STREAM_BITS)
        features = linear(np.maximum(linear(shape, self._wide), 0), self._shape) + linear(told, self._context)
        for first, second in self._blocks:
            features += _convolved(_convolved(features, *first, neighbors), *second, neighbors)
        y = linear(np.maximum(features, 0), self._latent)
        return np.clip(np.rint(y), -LIMIT, LIMIT).astype(np.int8)


class AnalysisNetwork:
    """The analysis transforms of levels 3, 2 and 1."""

    def __init__(self, tensors: Mapping[str, np.ndarray], config: ModelConfig) -> None:
        self._levels = {level: LevelAnalysis(tensors, level, config) for level in LATENT_LEVELS}

    def level(self, level: int) -> LevelAnalysis:
        """The analysis transform of level 3, 2 or 1."""
        return self._levels[level]
