"""Results of the study: a JSON file that grows run by run, and what follows from its runs."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pccodec.errors import InputError
from pccodec.evaluation.bdrate import Curve, anchor_curve, bd_rate, codec_curve
from pccodec.evaluation.report import source_commit
from pccodec.io.atomic import atomic_write
from pccodec.studies.codec.arms import MECHANICS, SEPARATE, Arm, TaskConfig
from pccodec.studies.codec.evaluation import Point

BASELINE = MECHANICS[0]
_DECIMALS = 3


@dataclass(frozen=True)
class Run:
    """One trained codec.

    Attributes:
        arm: how it was trained.
        seed: of the run.
        steps: of training.
        seconds: CPU time of training.
        points: its prefixes on the held-out blocks.
    """

    arm: Arm
    seed: int
    steps: int
    seconds: float
    points: list[Point]

    def to_json(self) -> dict[str, Any]:
        """A row, the arm's name first."""
        how = asdict(self.arm)
        return {
            "arm": how.pop("name"),
            "seed": self.seed,
            "steps": self.steps,
            "seconds": self.seconds,
            "how": how,
            "points": [asdict(point) for point in self.points],
        }

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Run:
        """From a row."""
        how = {**row["how"], "distribution": tuple(row["how"]["distribution"])}
        points = [Point(**point) for point in row["points"]]
        return cls(Arm(name=row["arm"], **how), row["seed"], row["steps"], row["seconds"], points)


@dataclass(frozen=True)
class Quality:
    """What is plotted over the rate, the higher the better."""

    name: str
    of: Callable[[Point], float]


QUALITIES = (
    Quality("bd_rate_d1", lambda point: point.d1_psnr),
    Quality("bd_rate_child_bits", lambda point: -point.child_bits),
)
"""The two BD-rates: at equal D1, and at equal bits of the children that are left."""


class Results:
    """The runs of a study and the file that holds them.

    Args:
        file: JSON file; its runs are taken over if it is there.
        config: of the task.
        base_bits: bits a node of the layers before the ranks.
        command: that makes the file.

    Raises:
        InputError: the file is not of this study, or of another configuration.
    """

    def __init__(self, file: Path, config: TaskConfig, base_bits: float, command: str) -> None:
        self.file, self.config, self.base_bits, self.command = file, config, base_bits, command
        self.runs: list[Run] = []
        if not file.exists():
            return
        try:
            stored = json.loads(file.read_text())
            same = stored["config"] == config.to_json()
            self.runs = [Run.from_json(row) for row in stored["runs"]]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{file} holds no results of this study: give another --json") from error
        if not same:
            raise InputError(f"{file} holds runs of another configuration: give another --json")

    def has(self, arm: str, seed: int) -> bool:
        """Whether a run is there."""
        return any(run.arm.name == arm and run.seed == seed for run in self.runs)

    def add(self, run: Run) -> None:
        """Add a run and write the file."""
        self.runs.append(run)
        self.write()

    def write(self) -> None:
        """Write all runs and their summary."""
        stored = {
            "command": self.command,
            "commit": source_commit(),
            "config": self.config.to_json(),
            "base_bits": round(self.base_bits, 5),
            "summary": self.summary(),
            "runs": [run.to_json() for run in self.runs],
        }
        with atomic_write(self.file) as stream:
            stream.write((json.dumps(stored, indent=1) + "\n").encode())

    def families(self) -> dict[str, list[list[Point]]]:
        """Points by prefix of each arm and seed; the separate models of a seed are one family."""
        found: dict[str, list[list[Point]]] = {}
        separate: dict[int, list[Point]] = {}
        for run in self.runs:
            if run.arm.name.startswith(SEPARATE):
                separate.setdefault(run.seed, []).extend(run.points)
            else:
                found.setdefault(run.arm.name, []).append(run.points)
        whole = [
            sorted(points, key=lambda point: point.ranks)
            for points in separate.values()
            if len(points) == self.config.ranks + 1
        ]
        return {**found, **({SEPARATE: whole} if whole else {})}

    def rates(self, points: Sequence[Point]) -> list[float]:
        """Bits a node of all that a decoder needs: base layer and ranks."""
        return [self.base_bits + point.bits for point in points]

    def loss(self, points: Sequence[Point]) -> float:
        """What training minimizes, on the held-out blocks: mean over the prefixes, bits a node."""
        return float(np.mean([point.child_bits + self.config.rate * point.bits for point in points]))

    def best_mechanics(self) -> str:
        """The arm of MECHANICS with the lowest mean loss on the held-out blocks.

        Raises:
            InputError: one of them has no run.
        """
        families = self.families()
        missing = [name for name in MECHANICS if name not in families]
        if missing:
            raise InputError(f"the other arms build on the best of the first four: run {missing[0]} first")
        return min(MECHANICS, key=lambda name: np.mean([self.loss(points) for points in families[name]]))

    def summary(self) -> dict[str, Any]:
        """Mean and spread over the seeds of each arm: loss, and BD-rates in percent.

        ``against_plain`` compares each run with the mean curve of the baseline's runs, and
        ``against_separate`` with that of the separate models: the cost of scalability. BD-rates
        say nothing of qualities that only one of two curves reaches; that is ``highest_d1``, the
        best D1 PSNR of a run, and ``prefixes``, all means.
        """
        families = self.families()
        out: dict[str, Any] = {
            "loss": {name: _spread([self.loss(p) for p in runs]) for name, runs in families.items()},
            "highest_d1": {
                name: _spread([max(point.d1_psnr for point in points) for points in runs])
                for name, runs in families.items()
            },
            "prefixes": {name: _mean_points(runs) for name, runs in families.items()},
        }
        for title, anchor in (("against_plain", BASELINE), ("against_separate", SEPARATE)):
            if anchor in families:
                out[title] = {name: self._bd_rates(families[anchor], runs) for name, runs in families.items()}
        return out

    def mean_curve(
        self, runs: Sequence[Sequence[Point]], quality: Quality
    ) -> tuple[list[float], list[float]]:
        """Rate and quality of each prefix, each the mean over the runs."""
        rates = np.mean([self.rates(points) for points in runs], axis=0)
        values = np.mean([[quality.of(point) for point in points] for points in runs], axis=0)
        return rates.tolist(), values.tolist()

    def _bd_rates(
        self, anchors: Sequence[Sequence[Point]], runs: Sequence[Sequence[Point]]
    ) -> dict[str, Any]:
        out = {}
        for quality in QUALITIES:
            anchor = anchor_curve(*self.mean_curve(anchors, quality))
            tests = [self._curve(points, quality) for points in runs]
            out[quality.name] = _spread([bd_rate(anchor, test) for test in tests])
        return out

    def _curve(self, points: Sequence[Point], quality: Quality) -> Curve:
        return codec_curve(self.rates(points), [quality.of(point) for point in points])


def _mean_points(runs: Sequence[Sequence[Point]]) -> list[dict[str, float]]:
    """Each prefix, the mean over the runs."""
    means = []
    for points in zip(*runs, strict=True):
        values = np.mean([list(asdict(point).values()) for point in points], axis=0).round(_DECIMALS).tolist()
        means.append(dict(zip(asdict(points[0]), [points[0].ranks, *values[1:]], strict=True)))
    return means


def _spread(values: Sequence[float]) -> dict[str, Any]:
    """Mean, standard deviation (of a sample; None for one value) and the values themselves."""
    known = [value for value in values if math.isfinite(value)]
    return {
        "mean": round(float(np.mean(known)), _DECIMALS) if known else None,
        "sd": round(float(np.std(known, ddof=1)), _DECIMALS) if len(known) > 1 else None,
        "values": [round(value, _DECIMALS) if math.isfinite(value) else None for value in values],
    }
