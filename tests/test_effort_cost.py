"""The command that measures what efforts cost and gain."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from pccodec import codec, container, errors, io
from pccodec.evaluation import effort
from pccodec.evaluation.effort import Measured

SAMPLE = Path(__file__).parent.parent / "data" / "human_vox8.ply"


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    """A cloud of which the base layer is small enough for milestones to be tried at effort 2."""
    return np.unique(io.read(SAMPLE).points // 4, axis=0)


def test_cuts_are_all_layer_ends_and_some_inside_the_base_layer(points: np.ndarray) -> None:
    stream = container.parse(codec.encode(points))
    ends = {layer.offset + layer.length for layer in stream.layers}
    sizes, base = effort.plan(stream, 5)
    g3 = next(layer for layer in stream.layers if layer.spec.name == "G3")
    assert base == g3.offset + g3.length
    assert sizes == sorted(sizes) and ends <= set(sizes)
    assert all(stream.header_size <= size < base for size in set(sizes) - ends)
    assert len(sizes) <= len(ends) + 5 and len(effort.plan(stream, 0)[0]) == len(ends)


def test_a_stream_of_half_the_bytes_gains_half() -> None:
    quality = (40.0, 50.0, 60.0, 70.0)
    anchor = Measured(1.0, 1600, 400, tuple(zip((200, 400, 800, 1600), quality, strict=True)))
    test = Measured(2.0, 800, 200, tuple(zip((100, 200, 400, 800), quality, strict=True)))
    assert effort.gain(anchor, test) == {"bd_rate_d1": -50.0, "bd_rate_d1_base": -50.0}
    assert anchor.until(400) == ([200, 400], [40.0, 50.0])
    alone = Measured(1.0, 10, 10, ((10, 99.99),))
    assert effort.gain(alone, alone) == {"bd_rate_d1": None, "bd_rate_d1_base": None}


def test_the_command_reports_every_effort(
    points: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud, file = tmp_path / "small.ply", tmp_path / "effort.json"
    io.write(cloud, points)
    assert effort.main([str(cloud), "--json", str(file)]) == 0
    report = json.loads(file.read_text())
    assert set(report) == {"commit", "model", "efforts", "clouds"}
    rows = report["clouds"]
    assert [row["effort"] for row in rows] == [1, 2, 3]
    for row in rows:
        assert row["cloud"] == "small" and row["encode_cpu_s"] >= 0
        assert row["bytes"] == len(codec.encode(points, effort=row["effort"])) == row["cuts"][-1][0]
        assert row["cuts"][-1][1] == 99.99
    assert "bd_rate_d1" not in rows[0]
    assert all(math.isfinite(row[key]) for row in rows[1:] for key in ("bd_rate_d1", "bd_rate_d1_base"))
    assert [row["bytes"] for row in report["efforts"]] == [row["bytes"] for row in rows]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [[n, e] for n in ("small", "all") for e in "123"]
    assert effort.main([str(tmp_path / "none.ply")]) == errors.InputError.exit_code
