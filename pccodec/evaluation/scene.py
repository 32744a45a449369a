"""A landscape from a seed, as an airborne laser sees it: hills, buildings, trees, water, power lines.

Everything is a function of the place, made of tables of random numbers that repeat after
kilometres, so that any part of a landscape of any size can be asked for by itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_TABLE = 256
"""Edge of the tables of random numbers, which repeat."""

_OCTAVES = ((900.0, 45.0), (370.0, 14.0), (150.0, 4.0), (61.0, 1.2), (25.0, 0.35), (9.0, 0.08))
"""Wavelength and amplitude, in metres, of the value noise that makes the hills."""

_WATER = -16.0
"""Height of the lakes over the mean of the hills."""

_BLOCK = 30.0
"""Edge of the cells that hold a building each, or none."""

_GROVE = 7.0
"""Edge of the cells that hold a tree each, or none."""

_LINE_SPACING = 700.0
_TOWER_SPACING = 260.0
_TOWER_HEIGHT = 32.0
_WIRES = (-7.0, 0.0, 7.0)


@dataclass(frozen=True, eq=False)
class Echoes:
    """What comes back from places (n,) on the ground.

    Attributes:
        first: height of the first echo (n,), metres.
        last: height of the last echo (n,), where the pulse went on to the ground.
        has_last: whether it did, bool (n,).
        strength: probability-like weight (n,) that the pulse comes back at all.
    """

    first: np.ndarray
    last: np.ndarray
    has_last: np.ndarray
    strength: np.ndarray


class Scene:
    """The landscape of a seed; places are in metres."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng([seed, 0])
        self._noise = rng.random((len(_OCTAVES) + 2, _TABLE, _TABLE))
        self._buildings = rng.random((7, _TABLE, _TABLE))
        self._trees = rng.random((6, _TABLE, _TABLE))

    def height(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Height of the bare ground (n,) at places (n,), (n,)."""
        ground = np.zeros(len(x))
        for table, (wavelength, amplitude) in zip(self._noise, _OCTAVES, strict=False):
            ground += amplitude * (2 * _value_noise(table, x / wavelength, y / wavelength) - 1)
        return ground

    def echoes(self, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> Echoes:
        """Echoes of pulses at places (n,), (n,); what is rough or thin takes its chances from ``rng``."""
        ground = self.height(x, y)
        is_water = ground < _WATER
        # Grass and crops.
        plants = np.where(_value_noise(self._noise[-1], x / 90, y / 90) > 0.5, 0.12, 0.02)
        first = ground + rng.exponential(plants)
        last, has_last = ground.copy(), np.zeros(len(x), bool)
        self._plant(x, y, first, has_last, rng)
        self._build(x, y, first, has_last, rng)
        first[is_water] = _WATER
        has_last &= ~is_water
        self._string(x, y, first, has_last, rng)
        # Water mirrors most pulses away.
        return Echoes(first, last, has_last, np.where(is_water, 0.15, 1.0))

    def _plant(
        self, x: np.ndarray, y: np.ndarray, first: np.ndarray, has_last: np.ndarray, rng: np.random.Generator
    ) -> None:
        # Rows of trees that are bent and run at an angle to the houses.
        along = 0.87 * x + 0.5 * y + 2.5 * np.sin(y / 13)
        across = 0.87 * y - 0.5 * x + 2.5 * np.sin(x / 11)
        column, row = np.floor(along / _GROVE).astype(int), np.floor(across / _GROVE).astype(int)
        kind, tall, wide, right, up, dense = self._trees[:, row % _TABLE, column % _TABLE]
        forest = _value_noise(self._noise[-1], x / 150, y / 150)
        radius = 1.0 + 2.2 * wide
        margin = _GROVE - 2 * radius
        centre = (column * _GROVE + radius + right * margin, row * _GROVE + radius + up * margin)
        distance = np.hypot(along - centre[0], across - centre[1])
        hit = np.flatnonzero((kind < np.clip(6 * forest - 3.2, 0.04, 0.95)) & (distance < radius))
        crown = np.sqrt(1 - (distance[hit] / radius[hit]) ** 2)
        top = (4 + 18 * tall[hit]) * (0.45 + 0.55 * crown)
        # Leaves let some of the light in, some of it to the ground.
        depth = np.minimum(rng.exponential(0.08 + 0.12 * dense[hit]), 0.9)
        first[hit] += top * (1 - depth)
        has_last[hit] = rng.random(len(hit)) < 0.65 - 0.3 * dense[hit]

    def _build(
        self, x: np.ndarray, y: np.ndarray, first: np.ndarray, has_last: np.ndarray, rng: np.random.Generator
    ) -> None:
        column, row = np.floor(x / _BLOCK).astype(int), np.floor(y / _BLOCK).astype(int)
        kind, length, width, turn, floors, roof, pitch = self._buildings[:, row % _TABLE, column % _TABLE]
        # A village is all or nothing in a block, so its middle decides.
        cells, member = np.unique(row * (1 << 32) + column, return_inverse=True)
        middle_y, middle_x = (np.divmod(cells, 1 << 32) + np.array([[0.5], [0.5]])) * _BLOCK
        village = _value_noise(self._noise[-2], middle_x / 260, middle_y / 260)[member]
        base = self.height(middle_x, middle_y)[member]
        angle = (0.3 * turn + np.floor(2 * turn) / 2) * np.pi
        right, up = x - middle_x[member], y - middle_y[member]
        along = right * np.cos(angle) + up * np.sin(angle)
        across = up * np.cos(angle) - right * np.sin(angle)
        half_length, half_width = 4 + 7 * length, 3 + 4.5 * width
        inside = (np.abs(along) < half_length) & (np.abs(across) < half_width)
        hit = np.flatnonzero(inside & (kind < np.clip(5 * village - 2, 0, 0.9)) & (base > _WATER + 1))
        eaves = base[hit] + 2.8 * (1 + np.floor(4 * floors[hit] ** 2))
        slope = np.where(roof[hit] < 0.7, 0.4 + 0.6 * pitch[hit], 0.0)
        top = eaves + slope * (half_width[hit] - np.abs(across[hit]))
        # At the rim some pulses strike the wall.
        rim = np.minimum(half_width[hit] - np.abs(across[hit]), half_length[hit] - np.abs(along[hit])) < 0.15
        wall = rim & (rng.random(len(hit)) < 0.5)
        ground = np.minimum(first[hit], base[hit])
        first[hit] = np.where(wall, ground + rng.random(len(hit)) * (eaves - ground), top)
        has_last[hit] = False

    def _string(
        self, x: np.ndarray, y: np.ndarray, first: np.ndarray, has_last: np.ndarray, rng: np.random.Generator
    ) -> None:
        # Lines run at an angle to everything else.
        along, across = 0.8 * x + 0.6 * y, 0.8 * y - 0.6 * x
        line = np.round(across / _LINE_SPACING)
        offset = across - line * _LINE_SPACING
        near = np.flatnonzero(np.abs(offset) < _WIRES[-1] + 1)
        span = along[near] / _TOWER_SPACING
        tower = np.round(span)
        # Wires hang between the tops of towers, as parabolas, some metres deep.
        ends = [self._tower_top(np.floor(span) + step, line[near] * _LINE_SPACING) for step in (0, 1)]
        part = span - np.floor(span)
        wire = ends[0] * (1 - part) + ends[1] * part - 4 * 9.0 * part * (1 - part)
        closest = np.min([np.abs(offset[near] - place) for place in _WIRES], axis=0)
        is_wire = (closest < 0.1) & (wire > first[near] + 2)
        is_tower = (np.abs(span - tower) * _TOWER_SPACING < 1.5) & (np.abs(offset[near]) < 1.5)
        is_tower &= rng.random(len(near)) < 0.6
        foot = first[near]
        first[near] = np.where(
            is_tower, foot + rng.random(len(near)) * _TOWER_HEIGHT, np.where(is_wire, wire, foot)
        )
        has_last[near] |= is_wire | is_tower

    def _tower_top(self, number: np.ndarray, across: np.ndarray) -> np.ndarray:
        """Height of the top of towers (n,) of the lines at (n,) metres across."""
        places, member = np.unique(np.stack([number * _TOWER_SPACING, across]), axis=1, return_inverse=True)
        along, across = places
        ground = self.height(0.8 * along - 0.6 * across, 0.6 * along + 0.8 * across)
        top: np.ndarray = np.maximum(ground, _WATER)[member] + _TOWER_HEIGHT
        return top


def _value_noise(table: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Smooth noise in 0…1 from a table of random numbers at whole places, which repeats."""
    left, low = np.floor(x), np.floor(y)
    u, v = x - left, y - low
    u *= u * (3 - 2 * u)
    v *= v * (3 - 2 * v)
    column, row = left.astype(int) % _TABLE, low.astype(int) % _TABLE
    right, above = (column + 1) % _TABLE, (row + 1) % _TABLE
    lower = table[row, column] * (1 - u) + table[row, right] * u
    upper = table[above, column] * (1 - u) + table[above, right] * u
    noise: np.ndarray = lower * (1 - v) + upper * v
    return noise
