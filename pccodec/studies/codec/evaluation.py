"""Rate and distortion of the reduced codec at its prefixes, on held-out blocks."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from pccodec.entropy.ranks import RankCoder, tables_from_counts
from pccodec.evaluation.metrics import Reference, psnr
from pccodec.model.probability import LOGIT_UNIT
from pccodec.model.upsampling import select_children
from pccodec.studies.codec.blocks import LEVEL, NodeCache
from pccodec.studies.codec.network import LevelCodec
from pccodec.training.release import count_ranks
from pccodec.voxels import morton, octree

COUNTED = 80
"""Training blocks on which the frequency tables of the ranks are counted."""
_PEAK = 1023.0


@dataclass(frozen=True)
class Point:
    """One prefix on all held-out blocks; bits are per stride-8 node.

    Attributes:
        ranks: m, the prefix.
        bits: the ranks as the codec's range coder codes them, with tables counted on training blocks.
        estimated_bits: the same as the trained rate model has them.
        child_bits: cross-entropy of the child bits that are left.
        d1_psnr: of the predicted cells of stride 4 against the true ones, in dB with peak 1023; from
            the mean over the blocks of the squared error.
    """

    ranks: int
    bits: float
    estimated_bits: float
    child_bits: float
    d1_psnr: float


def _positions(codes: np.ndarray) -> np.ndarray:
    """Corners, in voxels, of the cells of stride 4 with the given codes; (n, 3)."""
    return morton.decode(codes).astype(np.int64) << (LEVEL - 1)


class Evaluator:
    """Held-out blocks, prepared once for many runs.

    Args:
        training: blocks on whose beginning tables are counted.
        held_out: blocks to measure on.
    """

    def __init__(self, training: NodeCache, held_out: NodeCache) -> None:
        self._counted = training.take(range(min(COUNTED, len(training))))
        self.nodes = held_out.take(range(len(held_out)))
        self._blocks = [slice(begin, end) for begin, end in pairwise(self.nodes.bounds)]
        self._true = [self._children(block, self.nodes.occupancy[block]) for block in self._blocks]
        self._references = [Reference(_positions(codes), peak=_PEAK) for codes in self._true]

    def _children(self, block: slice, occupancy: np.ndarray) -> np.ndarray:
        return octree.expand(self.nodes.codes[block], occupancy)

    def d1_psnr(self, logits: np.ndarray) -> float:
        """D1 of what decoding would make of logits (n, 8) in nats."""
        steps = np.rint(logits * LOGIT_UNIT).astype(np.int32)
        errors = []
        for block, true, reference in zip(self._blocks, self._true, self._references, strict=True):
            predicted = select_children(steps[block], len(true), None)
            errors.append(reference.d1_mse(_positions(self._children(block, predicted))))
        return psnr(float(np.mean(errors)), _PEAK)

    def coded_bits(self, codec: LevelCodec, symbols: np.ndarray) -> list[int]:
        """Bits of each rank of all blocks, int8 (n, K), coded in one go; K numbers."""
        counts = count_ranks(self._counted.neighbors, codec.symbols(self._counted))
        coder, neighbors = RankCoder(tables_from_counts(counts)), self.nodes.neighbors
        return [
            8 * len(coder.encode(neighbors, symbols[:, :rank], symbols[:, rank]))
            for rank in range(symbols.shape[1])
        ]

    @torch.no_grad()
    def points(self, codec: LevelCodec, prefixes: list[int]) -> list[Point]:
        """The prefixes of a codec in evaluation mode."""
        nodes, count = self.nodes, len(self.nodes)
        symbols = codec.symbols(nodes)
        coded = np.cumsum([0, *self.coded_bits(codec, symbols)])
        context, y_hat = codec.context(nodes), torch.from_numpy(symbols.astype(np.float32))
        found = []
        for active in prefixes:
            left, estimated, logits = codec.outcome(nodes, context, y_hat, active)
            found.append(
                Point(
                    active,
                    round(float(coded[active]) / count, 5),
                    round(float(estimated) / count, 5),
                    round(float(left) / count, 5),
                    round(self.d1_psnr(logits.numpy()), 4),
                )
            )
        return found
