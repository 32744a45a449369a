"""Configuration of a training run, read from a JSON file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pccodec.errors import InputError
from pccodec.model.config import ModelConfig
from pccodec.training.states import StateConfig


@dataclass(frozen=True)
class TrainConfig:
    """A training run.

    Attributes:
        model: shape of the networks.
        seed: of weights, batches and truncation states.
        minutes: training time of the whole schedule, over all resumed parts.
        blocks: cached training blocks.
        batch_blocks, batch_voxels: blocks a step, and the voxels they may have together.
        learning_rate: peak of the schedule: linear warm-up, then a cosine down to 2 %.
        warmup_steps: of the learning rate.
        float_steps: until this step activations are not rounded; then their steps are set for good.
        noise_steps: until this step latents are quantized by noise, then by rounding.
        rate_ramp: steps at which the rate weight starts to rise and reaches its full value.
        rate_start: the factor on the rate weight before the ramp.
        rate_scale: factor on all rate weights (:class:`pccodec.training.objective.LossConfig`).
        only_ranks: train only what streams without ranks never use: the analysis transforms and the
            weights that read the ranks. Each step then has ranks.
        only: beginnings of the names of the parameters to train; none: all.
        states: probabilities of the truncation states.
        masked_optimizer, rescale: MaskLayer's masked optimizer and gradient rescaling. Neither
            helped in the studies (docs/masklayer.md), so that new runs do without; models up
            to dense3 were trained with both.
        ema: decay of the averaged weights that are released.
        validation_steps: steps between two validations.
        threads: CPU threads.
        device: where to train, as torch names it: "cpu" or "cuda".
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    seed: int = 1
    minutes: float = 95.0
    blocks: int = 5000
    batch_blocks: int = 3
    batch_voxels: int = 75_000
    learning_rate: float = 2e-3
    warmup_steps: int = 100
    float_steps: int = 500
    noise_steps: int = 800
    rate_ramp: tuple[int, int] = (300, 3000)
    rate_start: float = 0.05
    rate_scale: float = 1.0
    only_ranks: bool = False
    only: tuple[str, ...] = ()
    states: StateConfig = field(default_factory=StateConfig)
    masked_optimizer: bool = False
    rescale: bool = False
    ema: float = 0.998
    validation_steps: int = 1000
    threads: int = 1
    device: str = "cpu"

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {**asdict(self), "model": self.model.to_json()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TrainConfig:
        """From a mapping of attributes; those not named keep their defaults."""
        given = dict(values)
        unknown = set(given) - set(cls.__dataclass_fields__)
        if unknown:
            raise InputError(f"unknown training options: {', '.join(sorted(unknown))}")
        if "model" in given:
            given["model"] = ModelConfig.from_json(given["model"])
        for name in ("rate_ramp", "only"):
            if name in given:
                given[name] = tuple(given[name])
        if "states" in given:
            given["states"] = StateConfig.from_json(given["states"])
        return cls(**given)

    @classmethod
    def load(cls, file: Path) -> TrainConfig:
        """From a JSON file."""
        try:
            return cls.from_json(json.loads(file.read_text()))
        except (OSError, ValueError) as error:
            raise InputError(f"cannot read the training configuration {file}: {error}") from error
