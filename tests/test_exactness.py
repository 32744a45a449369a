"""Decoding gives the same bits under every setting, and the command that proves it finds a difference."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from pccodec import codec, container, io
from pccodec.evaluation import exactness
from pccodec.evaluation.exactness import Setting

DOCTORED = """
from pccodec.model.upsampling import Upsampler

true = Upsampler.voxels
Upsampler.voxels = lambda self, known: true(self, known)[:-1]
"""


@pytest.fixture
def cloud(tmp_path: Path) -> Path:
    x, y = np.meshgrid(np.arange(14), np.arange(14), indexing="ij")
    io.write(tmp_path / "saddle.ply", np.stack([x, y, (x * y) // 20], axis=-1).reshape(-1, 3))
    return tmp_path / "saddle.ply"


def test_sums_agree_under_two_settings(
    cloud: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    both = [Setting("1 thread"), Setting("numpy without SIMD", exactness.all_settings()[-4].environment)]
    assert "NPY_DISABLE_CPU_FEATURES" in both[1].environment
    monkeypatch.setattr(exactness, "all_settings", lambda: both)
    assert exactness.main([str(cloud), "--json", str(tmp_path / "report.json")]) == 0
    assert "All sums agree" in capsys.readouterr().out
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["agree"] and len(report["streams"]) == 2
    assert [setting["runtime"]["torch"] for setting in report["settings"]] == [False, False]
    points = io.read(cloud).points
    for stream in report["streams"]:
        if stream["option"] == ["default"]:
            data = codec.encode(points)
            sizes = exactness.cuts(container.parse(data))
            sums = {cut: exactness.checksum(codec.decode(data[:size])) for cut, size in sizes.items()}
            assert sums == stream["sums"]
    assert len({stream["sums"]["whole"] for stream in report["streams"]}) == 1


def test_a_decoder_that_loses_a_predicted_voxel_is_found(cloud: Path, tmp_path: Path) -> None:
    # Python runs this module at its start, before the codec is imported.
    (tmp_path / "sitecustomize.py").write_text(DOCTORED)
    path = os.pathsep.join([str(tmp_path), str(Path(exactness.__file__).parents[2])])
    settings = [Setting("true"), Setting("doctored", {"PYTHONPATH": path})]
    outcomes, streams = exactness.prove({"saddle": io.read(cloud).points}, settings)
    assert outcomes[0].error is None
    assert outcomes[1].error is not None
    assert "instead of" in outcomes[1].error
    # Only what is predicted changes: the streams are the same, and whole ones decode alike.
    assert all(stream["made_under"] == ["true", "doctored"] for stream in streams)
    for stream in streams:
        assert outcomes[1].sums[stream["id"]]["whole"] == stream["sums"]["whole"]


def test_a_process_that_dies_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import os; os._exit(7)")
    outcomes, streams = exactness.prove(
        {"point": np.array([[1, 2, 3]])}, [Setting("dies", {"PYTHONPATH": str(tmp_path)})]
    )
    assert outcomes[0].error is not None
    assert "code 7" in outcomes[0].error
    assert not streams


def test_missing_and_other_sums_are_differences() -> None:
    expected = {"a": {"header": "11", "whole": "22"}, "b": {"whole": "33"}}
    assert exactness.first_difference(expected, expected) is None
    assert exactness.first_difference({"a": {"header": "11", "whole": "23"}}, expected) == (
        "stream a, whole: 23 instead of 22"
    )
    assert exactness.first_difference({"a": expected["a"]}, expected) == (
        "stream b, whole: nothing instead of 33"
    )


def test_cuts_lie_at_ends_and_within_each_kind_of_layer() -> None:
    stream = container.parse(codec.encode(io.read(exactness.SAMPLE).points, ranks=(2, 1, 1)))
    sizes = exactness.cuts(stream)
    assert list(sizes.values()) == sorted(sizes.values())
    assert sizes["header"] == stream.header_size and sizes["whole"] == stream.size
    for layer in stream.layers:
        assert sizes[f"end of {layer.spec.name}"] == layer.offset + layer.length
    for name in ("G3", "R3.1", "G2", "R2.1", "G1", "R1.1", "G0"):
        assert any(cut.startswith(f"{name}, ") for cut in sizes)


def test_checksum_sees_values_order_and_kind() -> None:
    points = np.array([[1, 2, 3], [4, 5, 6]])
    assert exactness.checksum(points) == exactness.checksum(points.astype(">i8"))
    others = [points[::-1], points + 1, points.astype(np.float64)]
    assert len({exactness.checksum(other) for other in [points, *others]}) == 4
