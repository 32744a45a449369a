"""Arms of the study: how the ranks of the reduced codec are trained."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pccodec.errors import InputError
from pccodec.masklayer import geometric, only, uniform
from pccodec.model.config import ModelConfig
from pccodec.studies.codec.blocks import LEVEL

MECHANICS = ("plain", "rescaled", "masked", "both")
"""The four arms of rescaling and masked optimizer, with uniform prefixes; ``plain`` is the baseline."""
SEPARATE = "separate"
"""Arms ``separate_m`` train one model each, at the prefix ``m`` alone."""


def _narrow() -> ModelConfig:
    return ModelConfig(
        channels={3: 24, 2: 0, 1: 0},
        blocks={3: 1, 2: 0, 1: 0},
        ranks={3: 4, 2: 0, 1: 0},
        analysis_channels=32,
        analysis_blocks=1,
    )


@dataclass(frozen=True)
class TaskConfig:
    """The reduced codec and the budget of a run, the same for all arms.

    Attributes:
        model: shape of the networks; only level 3 is used.
        blocks: training blocks.
        steps: of a run.
        nodes: stride-8 nodes of a step, about.
        learning_rate: peak: linear warm-up over ``warmup`` steps, then a cosine down to 2 %.
        rate: weight of a bit of the ranks against a bit of the children that is left.
        rate_start, rate_ramp: factor on the rate weight at the start, and the shares of the steps at
            which it starts to rise and reaches 1.
        noisy: share of the steps in which latents are quantized by noise, before rounding.
        ratio: of the geometric distribution of the prefixes 1…K.
        summed_cost: time of a step that sums all prefixes, in steps with one prefix (measured). Such
            arms get that many fewer steps.
    """

    model: ModelConfig = field(default_factory=_narrow)
    blocks: int = 1000
    steps: int = 2200
    nodes: int = 800
    learning_rate: float = 8e-3
    warmup: int = 30
    rate: float = 0.15
    rate_start: float = 0.05
    rate_ramp: tuple[float, float] = (0.1, 0.5)
    noisy: float = 0.4
    ratio: float = 0.5
    summed_cost: float = 2.5

    @property
    def ranks(self) -> int:
        """K, the number of ranks."""
        return self.model.ranks[LEVEL]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values, keys of mappings as text."""
        sizes = {
            name: {str(level): number for level, number in value.items()}
            if isinstance(value, dict)
            else value
            for name, value in self.model.to_json().items()
        }
        return {**asdict(self), "model": sizes, "rate_ramp": list(self.rate_ramp)}


@dataclass(frozen=True)
class Arm:
    """One way of training.

    Attributes:
        name: of the arm.
        rescale: balancing gradient rescaling.
        masked: masked optimizer.
        distribution: weight of each prefix 0…K, (K+1,).
        summed: whether a step sums the loss over all prefixes instead of drawing one.
        rescale_rate: whether rescaling takes in the gradient of the ranks' rate.
        budgets: its time in budgets of a run.
    """

    name: str
    rescale: bool
    masked: bool
    distribution: tuple[float, ...]
    summed: bool = False
    rescale_rate: bool = True
    budgets: float = 1.0

    @property
    def prefixes(self) -> list[int]:
        """The prefixes that it trains."""
        return [m for m, weight in enumerate(self.distribution) if weight]

    def steps(self, config: TaskConfig) -> int:
        """Its number of steps."""
        cost = config.summed_cost if self.summed else 1.0
        return max(1, round(config.steps * self.budgets / cost))


def arm_names(ranks: int) -> list[str]:
    """All arms, in the order in which they are run."""
    separate = [f"{SEPARATE}_{m}" for m in range(ranks + 1)]
    return [
        *MECHANICS,
        "geometric",
        "matryoshka",
        *separate,
        "distortion_only",
        "longer",
        "matryoshka_longer",
    ]


def make_arm(name: str, config: TaskConfig, best: str) -> Arm:
    """The arm of a name.

    Args:
        name: of the arm.
        config: of the task.
        best: which of MECHANICS the arms of other distributions are trained with.

    Raises:
        InputError: there is no such arm.
    """
    ranks = config.ranks
    if name not in arm_names(ranks):
        raise InputError(f"no arm {name}: there are {', '.join(arm_names(ranks))}")
    equal = tuple(uniform(ranks, smallest=0).tolist())
    if name in MECHANICS:
        return Arm(name, name in ("rescaled", "both"), name in ("masked", "both"), equal)
    if name.startswith(SEPARATE):
        alone = only(ranks, [int(name.removeprefix(f"{SEPARATE}_"))])
        return Arm(name, rescale=False, masked=False, distribution=tuple(alone.tolist()))
    winner = replace(make_arm(best, config, best), name=name)
    if name == "geometric":
        # No ranks at all come as often as in the other arms.
        some = [(1 - equal[0]) * weight for weight in geometric(ranks, config.ratio).tolist()]
        return replace(winner, distribution=(equal[0], *some[1:]))
    if name == "distortion_only":
        return replace(winner, rescale=True, rescale_rate=False)
    if name == "longer":
        # The time of all separate models together.
        return replace(winner, budgets=ranks + 1.0)
    return replace(winner, summed=True, budgets=config.summed_cost if name == "matryoshka_longer" else 1.0)
