"""Training blocks on the device that trains, and random batches of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pccodec.training.batches import block_conditions
from pccodec.training.nodes import Tree
from pccodec.training.shapes import BLOCK_BITS, BlockCache

_CODE_BITS = 3 * BLOCK_BITS


@dataclass(frozen=True)
class DeviceBatch:
    """B blocks of 2**7 voxels a side.

    Attributes:
        tree: their octrees; level 7 are the B block roots, codes 0…B-1.
        counts: int64 (B, 8) on the CPU, nodes of each block at levels 0…7.
    """

    tree: Tree
    counts: np.ndarray

    @property
    def device(self) -> torch.device:
        """Where the tree lies."""
        return self.tree.codes[0].device

    @property
    def points(self) -> int:
        """Voxels of all blocks."""
        return len(self.tree.codes[0])

    def block_of(self, codes: Tensor, level: int) -> Tensor:
        """Block index, int64 (n,), of nodes of a level."""
        return codes >> 3 * (BLOCK_BITS - level)

    def conditions(self, level: int, exact: bool) -> Tensor:
        """Conditions float32 (B, CONDITIONS) of each block at a level of true or predicted nodes."""
        return torch.from_numpy(block_conditions(self.counts, level, exact)).to(self.device)

    @classmethod
    def of(cls, codes: Tensor) -> DeviceBatch:
        """Batch of sorted codes int64 (n,): a voxel's Morton code and its block's index above it."""
        tree = Tree.build(codes, BLOCK_BITS)
        blocks = len(tree.codes[-1])
        counts = [
            torch.bincount(nodes >> 3 * (BLOCK_BITS - level), minlength=blocks)
            for level, nodes in enumerate(tree.codes)
        ]
        return cls(tree, torch.stack(counts, dim=1).cpu().numpy())


def mirrored(codes: Tensor, axes: Tensor, flips: Tensor) -> Tensor:
    """Blocks under symmetries of the cube; not sorted.

    Args:
        codes: int64 (n,), as of :meth:`DeviceBatch.of`.
        axes: int64 (B, 3), of each block the axis that each new axis was before.
        flips: int64 (B, 3), 1 where a new axis is reversed.
    """
    block, out = codes >> _CODE_BITS, torch.zeros_like(codes)
    for axis in range(3):
        # Bit 3i + 2 of a Morton code is bit i of the first axis, 3i that of the last one.
        shift, flip = 2 - axes[block, axis], flips[block, axis]
        for bit in range(BLOCK_BITS):
            out |= (codes >> (3 * bit + shift) & 1 ^ flip) << 3 * bit + 2 - axis
    return block << _CODE_BITS | out


class BlockPool:
    """All blocks of a cache in a device's memory, 4 bytes a voxel.

    Args:
        cache: the blocks.
        device: where they go.
    """

    def __init__(self, cache: BlockCache, device: torch.device) -> None:
        self._codes = torch.from_numpy(np.array(cache.codes, dtype=np.int32)).to(device)
        self._offsets = cache.offsets

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def take(self, blocks: list[int]) -> Tensor:
        """Codes, int64, of some blocks as :meth:`DeviceBatch.of` takes them."""
        parts = [
            self._codes[self._offsets[block] : self._offsets[block + 1]].long() | index << _CODE_BITS
            for index, block in enumerate(blocks)
        ]
        return torch.cat(parts)

    def draw(self, size: int, voxel_budget: int, rng: np.random.Generator) -> DeviceBatch:
        """Up to ``size`` random blocks of together at most about ``voxel_budget`` voxels, at least one.

        Each is turned and mirrored by one of the 48 symmetries of the cube.
        """
        blocks: list[int] = []
        voxels = 0
        while len(blocks) < size and voxels < voxel_budget:
            block = int(rng.integers(len(self)))
            count = int(self._offsets[block + 1] - self._offsets[block])
            if not blocks or voxels + count <= voxel_budget:
                blocks.append(block)
            voxels += count
        codes = self.take(blocks)
        axes = np.stack([rng.permutation(3) for _ in blocks])
        flips = rng.integers(0, 2, (len(blocks), 3))
        turned = mirrored(
            codes, torch.from_numpy(axes).to(codes.device), torch.from_numpy(flips).to(codes.device)
        )
        return DeviceBatch.of(torch.sort(turned).values)
