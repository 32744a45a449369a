"""CPU time and memory of the commands as processes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pccodec import io
from pccodec.errors import InputError
from pccodec.evaluation import resources


def test_a_cloud_is_encoded_and_decoded(tmp_path: Path) -> None:
    grid = np.argwhere(np.ones((40, 40), dtype=bool))
    io.write(tmp_path / "plane.ply", np.column_stack([grid, grid.sum(axis=1) // 3]))
    report = tmp_path / "resources.json"
    assert resources.main([str(tmp_path / "plane.ply"), "--json", str(report)]) == 0
    (row,) = json.loads(report.read_text())["clouds"]
    assert row["cloud"] == "plane"
    for run in ("encode", "decode", "decode_base"):
        # No process that runs numpy is smaller or faster; none of so small a cloud takes gigabytes.
        assert row[run]["cpu_seconds"] > 0.05
        assert 20 < row[run]["peak_mb"] < 4000


def test_a_failing_command_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="decode failed with exit code 3"):
        resources.measure_command("decode", str(tmp_path / "none.pcc"), "-o", str(tmp_path / "a.ply"))
