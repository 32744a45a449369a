"""Sparse 3x3x3 convolution on octree nodes: gather rows by a neighbour map, then one matrix product.

Input and output nodes are the same, so the gradient of the input is itself such
a convolution with the kernel flipped, and one gather of the output's gradient
serves the gradients of input and weight alike. Nodes are taken in chunks that
stay in the cache: gathering all columns at once is bound by memory.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pccodec.sparse.neighbors import KERNEL

CHUNK = 1024
"""Nodes a gather; 27 columns of 32 channels in bf16 are then 1.7 MB (measured: 512–2048 are equal)."""
_DEVICE_CHUNK = 1 << 18
"""The same elsewhere than on the CPU, where only memory bounds it."""


def _chunk(features: Tensor) -> int:
    return CHUNK if features.device.type == "cpu" else _DEVICE_CHUNK


def _padded(features: Tensor) -> Tensor:
    """Features with the zero row that absent neighbours point to."""
    return torch.cat([features, features.new_zeros(1, features.shape[1])])


class _SparseConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, neighbors: Tensor) -> Tensor:
        ctx.save_for_backward(features, weight, neighbors)
        return gather_gemm(features, weight, neighbors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        features, weight, neighbors = ctx.saved_tensors
        grad = _padded(grads[0])
        nodes, c_in, c_out = len(features), weight.shape[1], weight.shape[2]
        flipped = weight.flip(0).transpose(1, 2).reshape(KERNEL * c_out, c_in)
        grad_features = torch.empty_like(features)
        grad_weight = torch.zeros(c_in, KERNEL * c_out, dtype=torch.float32, device=features.device)
        flat, chunk = neighbors.reshape(-1), _chunk(features)
        for begin in range(0, nodes, chunk):
            end = min(nodes, begin + chunk)
            columns = grad.index_select(0, flat[begin * KERNEL : end * KERNEL]).view(end - begin, -1)
            torch.mm(columns, flipped, out=grad_features[begin:end])
            # X[m] meets dY at the node whose neighbour k it is: its own neighbour 26 - k.
            grad_weight += features[begin:end].t() @ columns
        by_offset = grad_weight.view(c_in, KERNEL, c_out).transpose(0, 1).flip(0)
        return grad_features, by_offset.to(weight.dtype), None


def gather_gemm(features: Tensor, weight: Tensor, neighbors: Tensor) -> Tensor:
    """Convolution of features (n, c_in) with weight (27, c_in, c_out) over a map (n, 27): (n, c_out)."""
    table, kernel, flat = _padded(features), weight.reshape(-1, weight.shape[2]), neighbors.reshape(-1)
    nodes, chunk = len(features), _chunk(features)
    out = features.new_empty(nodes, weight.shape[2])
    for begin in range(0, nodes, chunk):
        end = min(nodes, begin + chunk)
        columns = table.index_select(0, flat[begin * KERNEL : end * KERNEL]).view(end - begin, -1)
        torch.mm(columns, kernel, out=out[begin:end])
    return out


def sparse_conv(features: Tensor, weight: Tensor, neighbors: Tensor) -> Tensor:
    """:func:`gather_gemm` with gradients of features and weight."""
    out: Tensor = _SparseConv.apply(features, weight, neighbors)
    return out


class SparseConv(nn.Module):
    """3x3x3 convolution between the nodes of one octree level, with bias.

    Args:
        c_in, c_out: channels.

    The weight is (27, c_in, c_out), its first axis ordered as the columns of
    :mod:`pccodec.sparse.neighbors`. It is cast to the dtype of the features, so
    that bf16 features are convolved in bf16 from fp32 weights.
    """

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(KERNEL, c_in, c_out))
        self.bias = nn.Parameter(torch.zeros(c_out))
        # About half of a surface node's 27 neighbours exist: He's rule with 14 of them.
        nn.init.normal_(self.weight, std=(2.0 / (14 * c_in)) ** 0.5)

    def forward(self, features: Tensor, neighbors: Tensor) -> Tensor:
        """Features (n, c_in) and neighbour map int32 (n, 27) to (n, c_out)."""
        out = sparse_conv(features, self.weight.to(features.dtype), neighbors)
        return out + self.bias.to(features.dtype)


class OccupancyConv(nn.Module):
    """Convolution of the constant 1: which of the 27 neighbours exist, as ``c_out`` features.

    The same as :class:`SparseConv` on a single channel of ones, without the gather.
    """

    def __init__(self, c_out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(KERNEL, c_out)
        nn.init.normal_(self.linear.weight, std=(1.0 / KERNEL) ** 0.5)

    def forward(self, neighbors: Tensor, dtype: torch.dtype) -> Tensor:
        """Neighbour map (n, 27) to features (n, c_out) of the given dtype."""
        present = (neighbors < len(neighbors)).to(dtype)
        return nn.functional.linear(present, self.linear.weight.to(dtype), self.linear.bias.to(dtype))
