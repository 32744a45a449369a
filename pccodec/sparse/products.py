"""Products of 8-bit integers whose sums have 32 bits, by the kernels of ONNX Runtime.

They use what a processor has for such products (VNNI and AMX on x86, dot products on Arm) and take a
fifth of the time of fp32 there. Integer sums are the same on every machine.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

# The ONNX graph y = MatMulInteger(x, w) with x uint8, w int8 and y int32, opset 17, as the package onnx
# serializes it; it stands here so that nobody needs that package.
_GRAPH = bytes.fromhex(
    "08083a500a180a01780a0177120179220d4d61744d756c496e74656765721201675a0f0a0178120a0a0808021204"
    "0a000a005a0f0a0177120a0a08080312040a000a00620f0a0179120a0a08080612040a000a0042040a001011"
)

_FEW = 32
"""Inputs up to which fp32 takes no longer."""


@cache
def _session() -> InferenceSession:
    """ONNX Runtime, ready to multiply."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # Without threads of its own it can be forked, and does not spin while other processes work.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(_GRAPH, options, providers=["CPUExecutionProvider"])


class ByteMatrix:
    """A matrix of int8 weights, each column times a power of two.

    Args:
        weight: int8 (K, H).
        shift: integers (H,); column ``h`` counts ``2**-shift[h]`` times.

    Attributes:
        weight: the weights.
        scale: fp32 (H,), the powers of two.
    """

    def __init__(self, weight: np.ndarray, shift: np.ndarray) -> None:
        self.weight = np.ascontiguousarray(weight)
        self.scale = np.ldexp(np.float32(1), -shift.astype(np.int32))
        self._floats = self.weight.astype(np.float32) * self.scale

    def times(self, rows: np.ndarray) -> np.ndarray:
        """Product of rows uint8 (n, K), at most 127, and the matrix: float32 (n, H).

        It is exact where the absolute terms of a sum add up to less than 2**24. Up to 127 two terms fit
        16 bits, which older kernels need.
        """
        if len(self.weight) <= _FEW:
            floats: np.ndarray = rows.astype(np.float32) @ self._floats
            return floats
        (sums,) = _session().run(None, {"x": rows, "w": self.weight})
        scaled: np.ndarray = sums.astype(np.float32)
        scaled *= self.scale
        return scaled
