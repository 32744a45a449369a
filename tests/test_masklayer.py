"""MaskLayer: masks, samplings, gradient rescaling, masked optimizer, and the order it gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from pccodec.masklayer import (
    MaskedOptimizer,
    MaskLayer,
    active_probability,
    geometric,
    only,
    prefix_mask,
    uniform,
)


def test_keeps_the_chosen_prefix_for_the_batch_or_each_row() -> None:
    layer = MaskLayer(4).eval()
    features = torch.arange(1.0, 9.0).view(2, 4)
    assert layer(features, 2).tolist() == [[1, 2, 0, 0], [5, 6, 0, 0]]
    assert layer(features, torch.tensor([0, 3])).tolist() == [[0, 0, 0, 0], [5, 6, 7, 0]]
    assert prefix_mask(3, 3).all() and not prefix_mask(3, 0).any()


def test_a_prefix_for_each_sample_masks_all_positions_of_the_sample() -> None:
    kept = MaskLayer(3).eval()(torch.ones(2, 5, 3), torch.tensor([1, 2]))
    assert kept[0].tolist() == [[1, 0, 0]] * 5
    assert kept[1].tolist() == [[1, 1, 0]] * 5


def test_evaluation_keeps_what_was_chosen_and_training_draws() -> None:
    layer = MaskLayer(4, only(4, [2]))
    assert layer(torch.ones(3, 4)).sum() == 6
    assert layer.drawn == 2
    layer.eval()
    assert layer(torch.ones(3, 4)).sum() == 12
    layer.keep = 1
    assert layer(torch.ones(3, 4)).sum() == 3
    assert layer.drawn == 2


def test_training_can_draw_for_each_sample() -> None:
    torch.manual_seed(0)
    layer = MaskLayer(8, uniform(8), per_sample=True)
    lengths = layer(torch.ones(200, 8)).sum(1)
    assert isinstance(layer.drawn, Tensor)
    assert (lengths == layer.drawn).all()
    assert set(lengths.tolist()) == set(range(1, 9))


@pytest.mark.parametrize(
    "weights", [[1.0, 1.0], [0.0] * 4, [1.0, -1.0, 1.0, 1.0], [1.0, float("nan"), 1.0, 1.0]]
)
def test_refuses_what_is_no_distribution(weights: list[float]) -> None:
    with pytest.raises(ValueError, match=r"4 prefixes|not all zero"):
        MaskLayer(3, weights)


def test_samplings() -> None:
    assert uniform(4).tolist() == [0, 0.25, 0.25, 0.25, 0.25]
    assert uniform(3, smallest=0).tolist() == [0.25] * 4
    assert geometric(3, 0.5).tolist() == pytest.approx([0, 4 / 7, 2 / 7, 1 / 7])
    assert only(4, [4, 1]).tolist() == [0, 0.5, 0, 0, 0.5]
    assert only(4, [4, 1], [1, 3]).tolist() == [0, 0.75, 0, 0, 0.25]
    for refused in ([1, 1], [5], []):
        with pytest.raises(ValueError):
            only(4, refused)
    with pytest.raises(ValueError, match="smallest"):
        uniform(4, smallest=5)
    with pytest.raises(ValueError, match="ratio"):
        geometric(4, 0.0)


@given(st.integers(1, 40), st.floats(0.5, 1.5), st.integers(0, 1))
def test_a_feature_is_active_as_often_as_the_sampling_says(
    features: int, ratio: float, smallest: int
) -> None:
    distribution = geometric(features, ratio, smallest)
    expected = sum(q * prefix_mask(features, m).float() for m, q in enumerate(distribution.tolist()))
    assert torch.allclose(active_probability(distribution), torch.as_tensor(expected), atol=1e-5)


def test_draws_follow_the_distribution() -> None:
    layer = MaskLayer(2, [0.0, 3.0, 1.0])
    generator = torch.Generator().manual_seed(0)
    drawn = [layer.draw(generator) for _ in range(2000)]
    assert drawn.count(0) == 0
    assert drawn.count(1) / len(drawn) == pytest.approx(0.75, abs=0.04)
    each = layer.draw_each(2000, generator).tolist()
    assert each.count(1) / len(each) == pytest.approx(0.75, abs=0.04)


@pytest.mark.parametrize("rescale", [True, False])
@pytest.mark.parametrize("distribution", [uniform(5, smallest=0), geometric(5, 0.6), only(5, [2, 5])])
def test_rescaling_makes_the_expected_gradient_equal_over_features(
    rescale: bool, distribution: Tensor
) -> None:
    layer = MaskLayer(5, distribution, rescale=rescale)
    features = torch.ones(5, requires_grad=True)
    # The loss summed over all prefixes is the expectation of the drawn one.
    loss = sum(weight * layer(features, m).sum() for m, weight in layer.prefixes())
    assert isinstance(loss, Tensor)
    loss.backward()
    assert features.grad is not None
    expected = torch.ones(5) if rescale else layer.active_probability
    assert torch.allclose(features.grad, expected, atol=1e-6)


def test_rescaling_balances_gradients_that_were_drawn() -> None:
    torch.manual_seed(0)
    layer = MaskLayer(6, geometric(6, 0.7), per_sample=True)
    features = torch.ones(20_000, 6, requires_grad=True)
    layer(features).sum().backward()
    assert features.grad is not None
    assert torch.allclose(features.grad.mean(0), torch.ones(6), atol=0.1)


def _optimizers() -> list[object]:
    return [
        pytest.param(torch.optim.Adam, {}, id="adam"),
        pytest.param(torch.optim.AdamW, {"weight_decay": 0.1}, id="adamw"),
        pytest.param(torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.1}, id="sgd"),
    ]


@pytest.mark.parametrize(("kind", "options"), _optimizers())
@pytest.mark.parametrize("first", [4, 1])
def test_masked_features_keep_parameters_and_moments(
    kind: type[torch.optim.Optimizer], options: dict[str, Any], first: int
) -> None:
    torch.manual_seed(0)
    makes, reads = nn.Linear(3, 4), nn.Linear(4, 2)
    layer = MaskLayer(4)
    optimizer = kind([*makes.parameters(), *reads.parameters()], lr=0.1, **options)  # type: ignore[call-arg]
    masked = MaskedOptimizer(optimizer, {"code": [(makes.weight, 0), (makes.bias, 0), (reads.weight, 1)]})

    def step(active: int | Tensor) -> None:
        masked.zero_grad()
        reads(layer(makes(torch.randn(3, 3)), active)).square().sum().backward()
        masked.step({"code": active})

    def state() -> list[Tensor]:
        """Everything with an axis of features, features first."""
        out = []
        for parameter, axis in masked.layers["code"]:
            values = [
                value for value in optimizer.state[parameter].values() if value.shape == parameter.shape
            ]
            assert values
            out += [tensor.detach().clone().transpose(0, axis) for tensor in (parameter, *values)]
        return out

    initial = [parameter.detach().clone().transpose(0, axis) for parameter, axis in masked.layers["code"]]
    step(first)
    before = state()
    parameters = before[:: len(before) // 3]
    assert all((new[first:] == old[first:]).all() for new, old in zip(parameters, initial, strict=True))
    step(torch.tensor([0, 2, 1]))
    after = state()
    for new, old in zip(after, before, strict=True):
        assert (new[2:] == old[2:]).all()
        assert (new[:2] != old[:2]).any()


def _axes_of_nested_autoencoder(sampled: bool) -> Tensor:
    """|cos| (3, 3) between the decoder's columns and the principal directions, after training."""
    torch.manual_seed(0)
    scales = torch.tensor([3.0, 2.0, 1.2, 0.6])
    rotation, _ = torch.linalg.qr(torch.randn(4, 4))
    data = torch.randn(2000, 4) * scales @ rotation.t()
    _, principal = torch.linalg.eigh(data.t() @ data)
    encoder, decoder = nn.Linear(4, 3, bias=False), nn.Linear(3, 4, bias=False)
    layer = MaskLayer(3, uniform(3), per_sample=True)
    steps = 1000
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        code = encoder(data)
        kept = [(None, 1.0)] if sampled else layer.prefixes()
        loss = sum(weight * (decoder(layer(code, m)) - data).square().mean() for m, weight in kept)
        assert isinstance(loss, Tensor)
        loss.backward()
        optimizer.step()
        schedule.step()
    directions = nn.functional.normalize(decoder.weight.detach(), dim=0)
    return (directions.t() @ principal.flip(1)[:, :3]).abs()


@pytest.mark.parametrize("sampled", [True, False], ids=["drawn", "summed"])
def test_nested_masks_order_a_linear_autoencoder_like_pca(sampled: bool) -> None:
    """Rippel et al., 2014: nested masks make the optimum PCA in order, not only its subspace."""
    assert (_axes_of_nested_autoencoder(sampled).diagonal() > 0.99).all()
