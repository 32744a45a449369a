"""MaskLayer on a labelled benchmark: ``python -m pccodec.studies.digits`` hashes scikit-learn's digits.

A small MLP makes a code of 64 bits, a linear head tells the digit from the code (or from a
prefix of it), and what is measured is retrieval: test images are queries, training images the
database, images of the same digit relevant. One scalable model is compared with models
trained for 8, 16, 32 and 64 bits alone, in all arms of the ablation.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pccodec.errors import DependencyError
from pccodec.evaluation.command import command
from pccodec.evaluation.retrieval import average_precision, hamming, precision_at
from pccodec.masklayer import MaskedOptimizer
from pccodec.studies.arms import (
    FEATURES,
    LENGTHS,
    RESULTS,
    SEEDS,
    Arm,
    arms,
    in_all_lengths,
    means,
    write_results,
)


@dataclass(frozen=True)
class Setting:
    """The budget that every arm has.

    Attributes:
        steps, batch: of training.
        width: of the hidden layer.
        adam, sgd: learning rates, falling to zero under a cosine; SGD has a momentum of 0.9.
        quantization: weight of ``mean((|code| − 1)²)``, which pulls codes to ±1.
        test: share of the images that are queries; the split depends on the seed.
    """

    steps: int = 1500
    batch: int = 128
    width: int = 128
    adam: float = 2e-3
    sgd: float = 0.05
    quantization: float = 0.1
    test: float = 0.25


class Digits:
    """Images float32 (n, 64) in 0…1 and labels int64 (n,), split into training and test by a seed."""

    def __init__(self, share: float, seed: int) -> None:
        try:
            from sklearn.datasets import load_digits
        except ImportError as error:
            raise DependencyError("this study needs scikit-learn: pip install 'pccodec[studies]'") from error
        images, labels = load_digits(return_X_y=True)
        order = np.random.default_rng(seed).permutation(len(images))
        cut = round(share * len(images))
        self.test, self.train = order[:cut], order[cut:]
        self.images, self.labels = images.astype(np.float32) / 16.0, labels.astype(np.int64)


class HashMlp(nn.Module):
    """64 pixels to a code in −1…1, and from a masked code to the logits of the ten digits."""

    def __init__(self, width: int, bits: int) -> None:
        super().__init__()
        self.hidden, self.code, self.head = nn.Linear(64, width), nn.Linear(width, bits), nn.Linear(bits, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Codes (n, bits) before the mask, of images (n, 64)."""
        return torch.tanh(self.code(torch.relu(self.hidden(images))))


def train(arm: Arm, bits: int, data: Digits, setting: Setting, seed: int) -> HashMlp:
    """A trained model of one arm and code length."""
    torch.manual_seed(seed)
    images, labels = torch.from_numpy(data.images[data.train]), torch.from_numpy(data.labels[data.train])
    model, layer = HashMlp(setting.width, bits), arm.layer(bits)
    if arm.optimizer == "sgd":
        optimizer: torch.optim.Optimizer = torch.optim.SGD(model.parameters(), setting.sgd, momentum=0.9)
    else:
        optimizer = torch.optim.Adam(model.parameters(), setting.adam)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, setting.steps)
    pairs = [(model.code.weight, 0), (model.code.bias, 0), (model.head.weight, 1)]
    masked = MaskedOptimizer(optimizer, {"code": pairs})
    for _ in range(setting.steps):
        chosen = torch.randint(len(images), (setting.batch,))
        code = model(images[chosen])
        lengths = arm.lengths(layer)
        longest = max(m for m, _ in lengths)
        logits = model.head(in_all_lengths(layer, code, [m for m, _ in lengths]))
        wanted = labels[chosen].repeat(len(lengths))
        losses = nn.functional.cross_entropy(logits, wanted, reduction="none").view(len(lengths), -1)
        loss = torch.tensor([weight for _, weight in lengths]) @ losses.mean(dim=1)
        loss = loss + setting.quantization * (code[:, :longest].abs() - 1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        if arm.masked:
            masked.step({"code": longest})
        else:
            optimizer.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def measure(model: HashMlp, bits: int, data: Digits) -> dict[str, float]:
    """mAP and precision@10, in percent, of the first ``bits`` bits."""
    codes = (model(torch.from_numpy(data.images)) > 0).numpy()
    distances = hamming(codes[data.test], codes[data.train], bits)
    relevant = data.labels[data.test][:, None] == data.labels[data.train]
    return {
        "map": round(100 * float(average_precision(distances, relevant).mean()), 3),
        "p10": round(100 * float(precision_at(distances, relevant, 10).mean()), 3),
    }


def run(arm: Arm, seed: int, setting: Setting) -> Iterator[dict[str, Any]]:
    """Rows of one arm and seed, one for each length of code."""
    data = Digits(setting.test, seed)
    model, seconds = None, 0.0
    for bits in LENGTHS:
        if model is None or arm.sampling == "separate":
            begin = time.process_time()
            model = train(arm, bits if arm.sampling == "separate" else FEATURES, data, setting, seed)
            seconds = time.process_time() - begin
        yield {
            "arm": arm.name,
            **asdict(arm),
            "seed": seed,
            "bits": bits,
            **measure(model, bits, data),
            "cpu_s": round(seconds, 2),
        }


@command
def main(arguments: list[str] | None = None) -> None:
    """Train all arms with all seeds and write what they reach."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--steps", type=int, default=Setting.steps)
    parser.add_argument("--json", type=Path, default=RESULTS / "masklayer_digits.json")
    options = parser.parse_args(arguments)
    setting = Setting(steps=options.steps)
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    # Adam divides a constant factor of a gradient out again; SGD shows what rescaling does alone.
    for arm in (*arms(), *arms(("uniform",), "sgd")):
        for seed in options.seeds:
            rows += run(arm, seed, setting)
        print(f"{arm.name:32} {arm.optimizer:5}", means(rows, arm, "map"), flush=True)
    write_results(options.json, "digits", asdict(setting), rows)


if __name__ == "__main__":
    sys.exit(main())
