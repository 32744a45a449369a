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
from pccodec.masklayer import MaskLayer, geometric, uniform

LENGTHS = (8, 16, 32, 64)
"""Code lengths at which hashes are measured."""

FEATURES = LENGTHS[-1]

HALF_LIFE = 16
"""Features after which a geometric prefix is half as likely."""

SEEDS = (0, 1, 2, 3, 4)


@dataclass(frozen=True)
class Arm:
    """One way of training.

    Attributes:
        sampling: "uniform" or "geometric", one prefix drawn a step; "matryoshka", the mean over
            all prefixes; "separate", no mask but a model for each length.
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
        """"none", "rescaling", "masked optimizer" or "both"."""
        return (("none", "masked optimizer"), ("rescaling", "both"))[self.rescale][self.masked]

    @property
    def name(self) -> str:
        """As tables show it, without the optimizer."""
        return "separate" if self.sampling == "separate" else f"{self.sampling}, {self.balance}"

    def layer(self, features: int = FEATURES) -> MaskLayer:
        """The arm's MaskLayer."""
        ratio = 0.5 ** (1.0 / HALF_LIFE)
        weights = geometric(features, ratio) if self.sampling == "geometric" else uniform(features)
        return MaskLayer(features, weights, rescale=self.rescale)

    def lengths(self, layer: MaskLayer) -> list[int]:
        """The prefixes of one step; their losses are averaged."""
        if self.sampling == "separate":
            return [layer.features]
        if self.sampling == "matryoshka":
            return [m for m, _ in layer.prefixes()]
        return [layer.draw()]


def arms(optimizers: Sequence[str] = ("adam",)) -> Iterator[Arm]:
    """All arms; a matryoshka step masks no feature, so that the masked optimizer changes nothing there."""
    for optimizer in optimizers:
        yield Arm("separate", optimizer=optimizer)
        for sampling in ("uniform", "geometric", "matryoshka"):
            for rescale in (False, True):
                for masked in (False, True) if sampling != "matryoshka" else (False,):
                    yield Arm(sampling, rescale, masked, optimizer)


def in_all_lengths(layer: MaskLayer, features: Tensor, lengths: Sequence[int]) -> Tensor:
    """Masked features (p·n, K) of features (n, K), for each of p lengths in turn."""
    each = torch.as_tensor(lengths).repeat_interleave(len(features))
    return layer(features.repeat(len(lengths), 1), each)


def write_results(path: Path, study: str, setting: dict[str, Any], rows: Iterable[dict[str, Any]]) -> None:
    """Write the rows of a study as JSON, one a line; the file appears whole or not at all."""
    lines = ",\n".join("  " + json.dumps(row) for row in rows)
    head = json.dumps({"study": study, "setting": setting}, indent=1)[:-2]
    with atomic_write(path) as file:
        file.write(f'{head},\n "rows": [\n{lines}\n ]\n}}\n'.encode())
