"""What the ablations of MaskLayer vary, and rows of results by arm and seed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pccodec.io import atomic_write
from pccodec.masklayer import MaskLayer, geometric, only, uniform

RESULTS = Path(__file__).parents[2] / "docs" / "results"

LENGTHS = (8, 16, 32, 64)
"""Code lengths at which hashes are measured."""

WEIGHTS = (3.0, 2.0, 1.5, 1.5)
"""Of the losses at :data:`LENGTHS`, where short codes count more: they hold more of the error."""

FEATURES = LENGTHS[-1]

HALF_LIFE = 16
"""Features after which a geometric prefix is half as likely."""

SMALLEST = LENGTHS[0]
"""Shorter prefixes are not trained: nobody uses them, and they cost the others."""

SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Arm:
    """One way of training.

    Attributes:
        sampling: "uniform" or "geometric", one prefix drawn a step; "matryoshka", the mean over
            all prefixes; "lengths", the mean over :data:`LENGTHS`; "weighted", that with the weights
            :data:`WEIGHTS`; "separate", no mask but a model for each length.
        rescale: balancing gradient rescaling.
        masked: masked optimizer.
        optimizer: "adam" or "sgd".
    """

    sampling: str
    rescale: bool = False
    masked: bool = False
    optimizer: str = "adam"

    @property
    def balance(self) -> str:
        """ "none", "rescaling", "masked optimizer" or "both"."""
        return (("none", "masked optimizer"), ("rescaling", "both"))[self.rescale][self.masked]

    @property
    def summed(self) -> bool:
        """Whether a step has all prefixes. It masks no feature then; a masked optimizer changes nothing."""
        return self.sampling in ("matryoshka", "lengths", "weighted")

    @property
    def name(self) -> str:
        """As tables show it, without the optimizer."""
        return "separate" if self.sampling == "separate" else f"{self.sampling}, {self.balance}"

    def layer(self, features: int = FEATURES) -> MaskLayer:
        """The arm's MaskLayer."""
        ratio = 0.5 ** (1.0 / HALF_LIFE)
        smallest = min(SMALLEST, features)
        weights = uniform(features, smallest)
        if self.sampling == "geometric":
            weights = geometric(features, ratio, smallest)
        elif self.sampling == "lengths":
            weights = only(features, LENGTHS)
        elif self.sampling == "weighted":
            weights = only(features, LENGTHS, WEIGHTS)
        return MaskLayer(features, weights, rescale=self.rescale)

    def lengths(self, layer: MaskLayer) -> list[tuple[int, float]]:
        """The prefixes of one step, and the weight of the loss of each; the weights add up to 1."""
        if self.sampling == "separate":
            return [(layer.features, 1.0)]
        if self.summed:
            return layer.prefixes()
        return [(layer.draw(), 1.0)]


SAMPLINGS = ("uniform", "geometric", "matryoshka", "lengths", "weighted")


def arms(samplings: Sequence[str] = SAMPLINGS, optimizer: str = "adam") -> Iterator[Arm]:
    """The separate models, and the scalable ones of all samplings with and without both balances."""
    yield Arm("separate", optimizer=optimizer)
    for sampling in samplings:
        for rescale in (False, True):
            for masked in (False, True):
                arm = Arm(sampling, rescale, masked, optimizer)
                if not (masked and arm.summed):
                    yield arm


def in_all_lengths(layer: MaskLayer, features: Tensor, lengths: Sequence[int]) -> Tensor:
    """Masked features (p·n, K) of features (n, K), for each of p lengths in turn."""
    each = torch.as_tensor(lengths).repeat_interleave(len(features))
    return layer(features.repeat(len(lengths), 1), each)


def means(rows: Iterable[dict[str, Any]], arm: Arm, metric: str) -> str:
    """An arm's mean of a metric at each length, as the commands print it."""
    own = [row for row in rows if row["arm"] == arm.name and row["optimizer"] == arm.optimizer]
    found = {bits: [row[metric] for row in own if row["bits"] == bits] for bits in LENGTHS}
    return "  ".join(f"{bits}: {sum(values) / len(values):6.2f}" for bits, values in found.items())


def write_results(path: Path, study: str, setting: dict[str, Any], rows: Iterable[dict[str, Any]]) -> None:
    """Write the rows of a study as JSON, one a line; the file appears whole or not at all."""
    lines = ",\n".join("  " + json.dumps(row) for row in rows)
    head = json.dumps({"study": study, "setting": setting}, indent=1)[:-2]
    with atomic_write(path) as file:
        file.write(f'{head},\n "rows": [\n{lines}\n ]\n}}\n'.encode())
