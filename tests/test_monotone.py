"""Cuts at random, and what counts as a fall of quality."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from pccodec import io
from pccodec.evaluation.monotone import draw_cuts, find_falls, main


def test_cuts_are_distinct_and_hold_both_ends() -> None:
    cuts = draw_cuts(40, 10_000, 100, seed=3)
    assert cuts == sorted(set(cuts)) and cuts[0] == 40 and cuts[-1] == 10_000
    assert 80 < len(cuts) <= 102
    assert sum(size < 400 for size in cuts) > 10


def test_falls_are_measured_from_the_best_shorter_cut() -> None:
    falls = find_falls(
        [(10, 50.0), (20, 51.0), (30, 50.5), (40, 50.9), (50, 52.0)], lambda size: f"at {size}"
    )
    assert [(fall.size, fall.layer, round(fall.decibel, 6)) for fall in falls] == [
        (30, "at 30", 0.5),
        (40, "at 40", 0.1),
    ]


def test_the_command_writes_every_cut(tmp_path: Path) -> None:
    side = np.arange(24)
    points = np.argwhere(np.abs(np.hypot(np.hypot(side[:, None, None], side[:, None]), side) - 20) < 0.7)
    io.write(tmp_path / "shell.ply", points)
    assert main([str(tmp_path / "shell.ply"), "--cuts", "12", "--json", str(tmp_path / "out.json")]) == 0
    (row,) = json.loads((tmp_path / "out.json").read_text())["clouds"]
    assert row["cloud"] == "shell" and len(row["cuts"]) > 8
    assert row["cuts"][-1][1] == 99.99 and row["falls_over_0.02"] == len(row["falls"])
