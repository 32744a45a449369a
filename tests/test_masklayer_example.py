"""The README's example of MaskLayer in a plain MLP does what it says."""

from __future__ import annotations

import torch
from torch import nn

from pccodec.masklayer import MaskedOptimizer, MaskLayer, geometric


def test_example_learns_features_of_which_every_prefix_classifies() -> None:
    torch.manual_seed(0)
    encoder, head = nn.Linear(20, 16), nn.Linear(16, 4)
    mask = MaskLayer(16, geometric(16, ratio=0.9), per_sample=True)
    model = nn.Sequential(encoder, nn.Tanh(), mask, head)
    optimizer = MaskedOptimizer(
        torch.optim.Adam(model.parameters(), lr=0.01),
        {"code": [(encoder.weight, 0), (encoder.bias, 0), (head.weight, 1)]},
    )
    x = torch.randn(1000, 20)
    y = (x[:, 0] > 0).long() + 2 * (x[:, 1] > 0).long()  # four classes
    for _ in range(300):
        loss = nn.functional.cross_entropy(model(x), y)  # a prefix is drawn for each sample
        optimizer.zero_grad()
        loss.backward()
        optimizer.step({"code": mask.drawn})
    model.eval()
    accuracy = {}
    for mask.keep in (1, 2, 4, 16):
        accuracy[mask.keep] = (model(x).argmax(1) == y).float().mean().item()
    print(accuracy)

    assert accuracy[2] > 0.9
    assert accuracy[16] > 0.95
    assert all(share > 0.45 for share in accuracy.values())
