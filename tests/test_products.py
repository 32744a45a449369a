"""Products of bytes against 64-bit integers."""

from __future__ import annotations

import multiprocessing

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pccodec.sparse.products import ByteMatrix


def _reference(rows: np.ndarray, weight: np.ndarray, shift: np.ndarray) -> np.ndarray:
    return np.ldexp((rows.astype(np.int64) @ weight.astype(np.int64)).astype(np.float64), -shift)


@given(
    st.integers(0, 1000),
    st.integers(0, 70),
    st.sampled_from([1, 3, 27, 64, 432, 1296]),
    st.sampled_from([1, 5, 8, 32, 48, 64]),
)
def test_equals_64_bit_integers(seed: int, nodes: int, inputs: int, outputs: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 128, (nodes, inputs)).astype(np.uint8)
    weight = rng.integers(-128, 128, (inputs, outputs)).astype(np.int8)
    shift = rng.integers(-7, 10, outputs).astype(np.int8)
    found = ByteMatrix(weight, shift).times(rows)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, _reference(rows, weight, shift))


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("inputs", [2, 3, 64, 1024])
def test_nothing_saturates(inputs: int, sign: int) -> None:
    """Pairs of products at their bounds would, were activations 8 bits wide."""
    weight = np.full((inputs, 8), 127 if sign > 0 else -128, dtype=np.int8)
    rows = np.full((33, inputs), 127, dtype=np.uint8)
    shift = np.zeros(8, dtype=np.int8)
    np.testing.assert_array_equal(ByteMatrix(weight, shift).times(rows), _reference(rows, weight, shift))


def _times(rows: np.ndarray) -> np.ndarray:
    return ByteMatrix(np.eye(3, dtype=np.int8), np.zeros(3, dtype=np.int8)).times(rows)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_a_forked_process_multiplies_too() -> None:
    rows = np.arange(6, dtype=np.uint8).reshape(2, 3)
    _times(rows)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        np.testing.assert_array_equal(pool.apply_async(_times, (rows,)).get(timeout=60), rows)
