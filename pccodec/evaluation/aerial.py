"""An airborne laser scan from a seed: ``python -m pccodec.evaluation.aerial --points N --seed S -o FILE``.

For tests and measurements of large clouds that anybody can make again. A plane flies
overlapping strips over the landscape of ``scene.py``; its mirror swings, so that lines zigzag and are denser
at their ends. Echoes have noise, strips are off by centimetres from each other, lakes hardly answer and
trees answer twice. Coordinates look like UTM, in steps of a centimetre. Made chunk by
chunk, each from random numbers of its own, in memory that does not grow.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pccodec.errors import InputError
from pccodec.evaluation.command import command
from pccodec.evaluation.scene import Scene
from pccodec.io import CloudSpec, open_writer

_CHUNK = 1 << 18

_STEP = 0.01
"""Coordinates are multiples of this, in metres."""

_ORIGIN = (356_000.0, 5_645_000.0, 210.0)
"""Corner of the area, and mean height: somewhere in a UTM zone."""

_HEIGHTS = (-75.0, 145.0)
"""No point is lower or higher than these, over the mean height."""


@dataclass(frozen=True)
class AerialConfig:
    """A flight.

    Attributes:
        points: of the whole cloud.
        seed: of everything random.
        density: points per square metre, on average.
        strip: distance of the strips in metres, about.
        overlap: how much wider than their distance strips are.
        noise: standard deviation of the range, in metres.
        wobble: standard deviation of places on the ground, in metres.
    """

    points: int
    seed: int = 0
    density: float = 14.0
    strip: float = 300.0
    overlap: float = 0.3
    noise: float = 0.02
    wobble: float = 0.05

    @property
    def side(self) -> float:
        """Edge of the square area, in metres."""
        return math.sqrt(self.points / self.density)

    @property
    def strips(self) -> int:
        """Number of strips."""
        return max(2, round(self.side / self.strip))

    def spec(self) -> CloudSpec:
        """What a writer has to know."""
        margin = self.side * self.overlap / self.strips + 5
        low = np.array(_ORIGIN) + [-margin, -margin, _HEIGHTS[0]]
        high = np.array(_ORIGIN) + [self.side + margin, self.side + margin, _HEIGHTS[1]]
        return CloudSpec.within(low, high, False, _STEP / 2, self.points)


def scan(config: AerialConfig) -> Iterator[np.ndarray]:
    """The points in the order of their flight, float64 (n, 3) in chunks."""
    scene = Scene(config.seed)
    # Whole numbers, so that strips and chunks share all the points.
    shares = np.diff(np.arange(config.strips + 1) * config.points // config.strips)
    for strip, points in enumerate(shares.tolist()):
        for number, start in enumerate(range(0, points, _CHUNK)):
            rng = np.random.default_rng([config.seed, 1, strip, number])
            stop = min(points, start + _CHUNK)
            yield _fly(config, scene, strip, start / points, stop / points, stop - start, rng)


def _fly(
    config: AerialConfig,
    scene: Scene,
    strip: int,
    start: float,
    stop: float,
    points: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """``points`` points of a part of a strip, which goes from 0 to 1."""
    spacing = config.side / config.strips
    width = spacing * (1 + config.overlap)
    # Some pulses more than points, since not all of them come back.
    time = start + (stop - start) * np.arange(int(1.15 * points) + 8) / (int(1.15 * points) + 8)
    # The plane is now faster, now slower.
    along = time + 0.03 / math.tau * np.sin(math.tau * 4 * time + strip)
    if strip % 2:
        along = 1 - along
    # As many lines as make them as far apart as the points of a line.
    lines = config.side * math.sqrt(config.points / config.strips / (config.side * width))
    phase = time * lines / 2
    swing = 2 * np.abs(2 * (phase - np.floor(phase)) - 1) - 1
    swing = 0.6 * swing + 0.4 * np.sin(swing * math.pi / 2)
    roll = 1.5 * np.sin(math.tau * 7 * time + 2 * strip)
    x = spacing * (strip + 0.5) + width / 2 * swing + roll + rng.normal(0, config.wobble, len(time))
    y = config.side * along + rng.normal(0, config.wobble, len(time))
    echoes = scene.echoes(x, y, rng)
    # The further echo comes right behind the first one.
    pulse = np.flatnonzero(np.stack([np.ones(len(x), bool), echoes.has_last], axis=1).ravel())
    is_last, pulse = pulse % 2 == 1, pulse // 2
    # Most likely to be kept is what answers best; exactly so many are.
    chance = rng.random(len(pulse)) ** (1 / echoes.strength[pulse])
    kept = np.sort(np.argpartition(chance, len(chance) - points)[len(chance) - points :])
    is_last, pulse = is_last[kept], pulse[kept]
    z = np.where(is_last, echoes.last[pulse], echoes.first[pulse])
    z += rng.normal(0, config.noise, points) + 0.03 * math.sin(5 * strip + config.seed)
    place = np.stack([x[pulse], y[pulse], np.clip(z, *_HEIGHTS)], axis=1) + _ORIGIN
    rounded: np.ndarray = np.rint(place / _STEP) * _STEP
    return rounded


@command
def main(arguments: list[str] | None = None) -> None:
    """Write a cloud, in the format of the file's suffix."""
    parser = argparse.ArgumentParser(prog="python -m pccodec.evaluation.aerial", description=main.__doc__)
    parser.add_argument("--points", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--density", type=float, default=AerialConfig.density, help="points per square metre")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    options = parser.parse_args(arguments)
    if options.points < 1 or options.seed < 0 or not 0 < options.density < math.inf:
        raise InputError("there must be points, a density above 0, and a seed that is not negative")
    config = AerialConfig(options.points, options.seed, options.density)
    with open_writer(options.output, config.spec()) as writer:
        for chunk in scan(config):
            writer.write(chunk)


if __name__ == "__main__":
    sys.exit(main())
