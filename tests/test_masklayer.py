"""MaskLayer: masks, gradient rescaling, masked optimizer, and the order it gives."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pccodec.masklayer import MaskedOptimizer, MaskLayer, prefix_mask


def test_keeps_the_chosen_prefix_for_the_batch_or_each_row() -> None:
    layer = MaskLayer(4).eval()
    features = torch.arange(1.0, 9.0).view(2, 4)
    assert layer(features, 2).tolist() == [[1, 2, 0, 0], [5, 6, 0, 0]]
    assert layer(features, torch.tensor([0, 3])).tolist() == [[0, 0, 0, 0], [5, 6, 7, 0]]
    assert prefix_mask(3, 3).all() and not prefix_mask(3, 0).any()


def test_refuses_a_distribution_of_the_wrong_length() -> None:
    with pytest.raises(ValueError, match="4 prefixes"):
        MaskLayer(3, [1.0, 1.0])


def test_draws_follow_the_distribution() -> None:
    layer = MaskLayer(2, [0.0, 3.0, 1.0])
    generator = torch.Generator().manual_seed(0)
    drawn = [layer.draw(generator) for _ in range(2000)]
    assert drawn.count(0) == 0
    assert drawn.count(1) / len(drawn) == pytest.approx(0.75, abs=0.04)


@pytest.mark.parametrize("rescale", [True, False])
def test_rescaling_makes_the_expected_gradient_equal_over_features(rescale: bool) -> None:
    layer = MaskLayer(5, rescale=rescale)
    expected = torch.zeros(5)
    for active, probability in enumerate(layer.distribution.tolist()):
        features = torch.ones(5, requires_grad=True)
        layer(features, active).sum().backward()
        assert features.grad is not None
        expected += probability * features.grad
    if rescale:
        assert torch.allclose(expected, torch.ones(5))
    else:
        assert torch.allclose(expected, layer.active_probability)
        assert (expected[1:] < expected[:-1]).all()


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
def test_masked_features_keep_parameters_and_moments(kind: type[torch.optim.Optimizer]) -> None:
    torch.manual_seed(0)
    makes, reads = nn.Linear(3, 4), nn.Linear(4, 2)
    layer = MaskLayer(4)
    optimizer = kind([*makes.parameters(), *reads.parameters()], lr=0.1)  # type: ignore[call-arg]
    masked = MaskedOptimizer(optimizer, {"code": [(makes.weight, 0), (makes.bias, 0), (reads.weight, 1)]})

    def step(active: int) -> None:
        optimizer.zero_grad()
        reads(layer(makes(torch.randn(8, 3)), active)).square().sum().backward()
        masked.step({"code": active})

    step(4)
    before = makes.weight.detach().clone(), reads.weight.detach().clone()
    moments = optimizer.state[makes.weight]["exp_avg"].clone()
    step(2)
    assert (makes.weight[2:] == before[0][2:]).all() and (reads.weight[:, 2:] == before[1][:, 2:]).all()
    assert (optimizer.state[makes.weight]["exp_avg"][2:] == moments[2:]).all()
    assert (makes.weight[:2] != before[0][:2]).any() and (reads.weight[:, :2] != before[1][:, :2]).any()


def test_nested_masks_order_a_linear_autoencoder_like_pca() -> None:
    """With nested masks the optimum of a linear autoencoder is PCA in order, not only its subspace."""
    torch.manual_seed(0)
    scales = torch.tensor([3.0, 2.0, 1.2, 0.6])
    rotation, _ = torch.linalg.qr(torch.randn(4, 4))
    data = torch.randn(2000, 4) * scales @ rotation.t()
    encoder, decoder, layer = nn.Linear(4, 3, bias=False), nn.Linear(3, 4, bias=False), MaskLayer(3)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=0.02)
    for _ in range(1200):
        optimizer.zero_grad()
        loss = sum(((decoder(layer(encoder(data), m)) - data) ** 2).mean() for m in (1, 2, 3))
        assert isinstance(loss, torch.Tensor)
        loss.backward()
        optimizer.step()
    directions = nn.functional.normalize(decoder.weight.detach(), dim=0)
    aligned = (directions.t() @ rotation[:, :3]).abs()
    assert (aligned.diagonal() > 0.97).all()
