"""Quantization-aware layers against the integer arithmetic that they stand for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pccodec.sparse import integer
from pccodec.sparse.integer import ACTIVATION_MAX, ACTIVATION_UNIT, ExactSum, gathered
from pccodec.sparse.neighbors import KERNEL
from pccodec.training.quantization import (
    QuantConv,
    QuantLinear,
    activate,
    export,
    round_weight,
    weight_shift,
)


def _spread(layer: QuantLinear | QuantConv, rng: np.random.Generator) -> None:
    """Weights whose channels differ in size by orders of magnitude, and biases off the grid."""
    assert layer.bias is not None
    with torch.no_grad():
        size = np.exp(rng.uniform(-7.0, 0.0, len(layer.bias))) / layer.gain
        axes = (-1, 1) if isinstance(layer, QuantLinear) else (1, 1, -1)
        layer.weight.copy_(torch.from_numpy(rng.normal(size=layer.weight.shape) * size.reshape(axes)))
        layer.bias.copy_(torch.from_numpy(rng.normal(size=len(layer.bias))))


@given(seed=st.integers(0, 2**32), gain=st.sampled_from([1.0, 8.0, 16.0]))
@settings(max_examples=40, deadline=None)
def test_a_linear_layer_equals_the_integer_sum(seed: int, gain: float) -> None:
    rng = np.random.default_rng(seed)
    layer = QuantLinear(30, 12, gain=gain, bias_gain=ACTIVATION_UNIT * gain)
    _spread(layer, rng)
    inputs = rng.integers(0, ACTIVATION_MAX + 1, (50, 30))
    parts = export(layer)
    exact = ExactSum("layer", [(parts["weight"], parts["shift"], ACTIVATION_MAX)], parts["bias"])
    expected = inputs.astype(np.float32) @ exact.weights[0] + exact.offset
    out = layer(torch.from_numpy(inputs / np.float32(ACTIVATION_UNIT))).detach().numpy()
    np.testing.assert_array_equal(out * (ACTIVATION_UNIT * gain) + 0.5, expected)
    wide = parts["weight"].astype(np.int64)
    np.testing.assert_array_equal(
        (expected.astype(np.float64) - 0.5) * 2**16,
        ((inputs @ wide) << (16 - parts["shift"].astype(np.int64))) + (parts["bias"].astype(np.int64) << 12),
    )


def _convolved(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Activations of a random convolution, float32 (60, 6) by torch and uint8 (60, 6) in integers."""
    rng = np.random.default_rng(seed)
    layer = QuantConv(8, 6)
    _spread(layer, rng)
    neighbors = rng.integers(0, 61, (60, KERNEL)).astype(np.int32)
    inputs = rng.integers(0, ACTIVATION_MAX + 1, (61, 8)).astype(np.uint8)
    inputs[60] = 0
    parts = export(layer)
    exact = ExactSum("layer", [(parts["weight"], parts["shift"], ACTIVATION_MAX)], parts["bias"])
    expected = integer.activate(gathered(inputs, neighbors) @ exact.weights[0] + exact.offset)
    features = torch.from_numpy(inputs[:60] / np.float32(ACTIVATION_UNIT))
    return activate(layer(features, torch.from_numpy(neighbors))).detach().numpy(), expected


@given(seed=st.integers(0, 2**32))
@example(seed=454)  # Nearly all of its activations are 0.
@settings(max_examples=20, deadline=None)
def test_a_convolution_and_its_activation_equal_the_integer_network(seed: int) -> None:
    out, expected = _convolved(seed)
    np.testing.assert_array_equal(out * ACTIVATION_UNIT, expected)


def test_convolutions_that_are_compared_have_many_activations() -> None:
    assert len(np.unique(np.concatenate([_convolved(seed)[1] for seed in range(20)]))) > 100


def test_halves_are_rounded_up_as_in_the_integer_network() -> None:
    sums = torch.arange(-8, 9) / (2.0 * ACTIVATION_UNIT)
    expected = integer.activate(sums.numpy() * ACTIVATION_UNIT + 0.5)
    np.testing.assert_array_equal(activate(sums).numpy() * ACTIVATION_UNIT, expected)


def test_gradients_pass_the_rounding_unchanged_and_stop_at_the_bounds() -> None:
    layer, twin = QuantLinear(5, 4), torch.nn.Linear(5, 4)
    x = torch.randn(9, 5)
    layer(x).square().sum().backward()
    with torch.no_grad():
        twin.weight.copy_(round_weight(layer.weight, layer.dims, layer.gain))
        twin.bias.copy_(torch.round(layer.bias * 256) / 256)
    twin(x).square().sum().backward()
    torch.testing.assert_close(layer.weight.grad, twin.weight.grad)
    torch.testing.assert_close(layer.bias.grad, twin.bias.grad)
    bounded = torch.tensor([-0.5, 0.3, 7.9, 8.5], requires_grad=True)
    activate(bounded).sum().backward()
    assert bounded.grad is not None
    assert bounded.grad.tolist() == [0.0, 1.0, 1.0, 0.0]


def test_names_are_those_of_the_plain_layers() -> None:
    assert list(QuantLinear(3, 2).state_dict()) == ["weight", "bias"]
    assert list(QuantConv(3, 2).state_dict()) == ["weight", "bias"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_layer_computes_in_the_dtype_of_its_input(dtype: torch.dtype) -> None:
    assert QuantLinear(3, 2)(torch.ones(4, 3, dtype=dtype)).dtype == dtype
    neighbors = torch.full((4, KERNEL), 4)
    assert QuantConv(3, 2)(torch.ones(4, 3, dtype=dtype), neighbors).dtype == dtype


def test_weights_fit_int8_after_their_shift() -> None:
    weight = torch.tensor([[0.001, 0.5], [3.0, -2.0]])
    shift = weight_shift(weight, (1,), 1.0)
    scaled = (weight * 2**shift).abs().amax(dim=1)
    assert (scaled <= 127).all()
    assert float(scaled[1]) > 63
