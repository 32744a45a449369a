"""Commands that measure several clouds: their summary, and the static tables of one of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pccodec.evaluation.summary import clouds_parser, summarize
from pccodec.training.levels import levels_of, octree_of
from pccodec.training.table_baseline import Tables
from pccodec.voxels import morton


def test_each_setting_has_its_own_mean(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = clouds_parser("test").parse_args(["a.ply", "--json", str(tmp_path / "rows.json")])
    rows = [{"way": "x", "loss": 1.0}, {"way": "y", "loss": 5.0}, {"way": "x", "loss": 2.0}]
    summarize(rows, "loss", options.json, by="way")
    assert [line.split()[1:3] for line in capsys.readouterr().out.splitlines()] == [
        ["x", "1.50"],
        ["y", "5.00"],
    ]
    assert json.loads((tmp_path / "rows.json").read_text()) == rows


def test_static_tables_code_what_they_counted_in_less_than_a_bit_each() -> None:
    grid = np.argwhere(np.indices((64, 64, 64)).sum(axis=0) % 96 == 70)
    level = levels_of(octree_of(np.sort(morton.encode(grid))))[0]
    empty, counted = Tables(), Tables()
    counted.count(level)
    bits = 8 * len(level.occupancy)
    assert counted.bits(level) < 0.3 * bits < empty.bits(level) <= bits
