"""``pccodec eval`` from files to tables, with a plain octree in place of the codec."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from click.testing import CliRunner, Result

from pccodec import io
from pccodec.cli import main
from pccodec.errors import ModelError
from pccodec.evaluation import embedded
from pccodec.model import store
from tests.octree_codec import OctreeCodec


@pytest.fixture
def clouds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(embedded, "Pccodec", lambda **options: OctreeCodec())
    folder = tmp_path / "clouds"
    folder.mkdir()
    rng = np.random.default_rng(5)
    for name, height in (("slope_a", 20), ("slope_b", 40)):
        flat = rng.integers(0, 64, (4000, 2))
        io.write(folder / f"{name}.ply", np.column_stack([flat, flat.sum(axis=1) * height // 126]))
    (folder / "notes.csv").write_text("not a cloud\n")
    return folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["eval", *map(str, arguments)])


def test_directory_with_all_outputs(clouds: Path, tmp_path: Path) -> None:
    own, plot, report = tmp_path / "own.csv", tmp_path / "rd.png", tmp_path / "report.json"
    assert run(clouds, "--csv", own).exit_code == 0
    # The codec against its own table: no difference anywhere.
    result = run(
        clouds, "--anchors", own, "--json", report, "--plot", plot, "--cuts", 3, "--group", "first=*_a,none"
    )
    assert result.exit_code == 0, result.output
    with open(own, newline="") as file:
        assert {row["cloud"] for row in csv.DictReader(file)} == {"slope_a", "slope_b"}
    document = json.loads(report.read_text())
    assert [cloud["is_lossless"] for cloud in document["clouds"]] == [True, True]
    assert [(mean["cloud"], mean["clouds"]) for mean in document["means"]] == [("mean", 2), ("first", 1)]
    for comparison in document["comparisons"] + document["means"]:
        assert comparison["bd_rate_d1"] == pytest.approx(0, abs=0.01)
        assert comparison["lossless_rate"] == pytest.approx(0, abs=0.01)
    command = "pccodec eval CLOUDS --anchors own.csv --group 'first=*_a,none' --cuts 3"
    assert document["command"] == command
    assert matplotlib.image.imread(plot).ndim == 3
    for text in ("slope_a", "slope_b", "mean of 2", "first of 1", "lossless", "0.000 dB"):
        assert text in result.stdout


def test_single_cloud_lists_its_cuts(clouds: Path) -> None:
    result = run(clouds / "slope_a.ply", "--cuts", 2)
    assert result.exit_code == 0, result.output
    for layer in ("G5", "G4", "G3", "G2", "G1", "G0", "in G"):
        assert layer in result.stdout
    assert "BD-rate" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--group", "dense"], 2, "NAME=PATTERN"),
        (["--cuts", "-1"], 2, "--cuts"),
        (["--anchors", "notes.csv"], 3, "lacks the column"),
    ],
)
def test_wrong_options(arguments: list[str], code: int, message: str, clouds: Path) -> None:
    resolved = [str(clouds / word) if word == "notes.csv" else word for word in arguments]
    result = run(clouds, *resolved)
    assert result.exit_code == code
    assert message in result.output


def test_clouds_need_names_of_their_own(clouds: Path) -> None:
    result = run(clouds, clouds / "slope_a.ply")
    assert result.exit_code == 2
    assert "slope_a" in result.output


def test_empty_directory(tmp_path: Path) -> None:
    result = run(tmp_path)
    assert result.exit_code == 2
    assert "no clouds" in result.output


def test_damaged_cloud(clouds: Path) -> None:
    (clouds / "broken.ply").write_bytes(b"ply\nformat nonsense\n")
    assert run(clouds).exit_code == 3


def test_pccodec_itself_with_two_jobs(tmp_path: Path) -> None:
    try:
        store.load()
    except ModelError:
        pytest.skip("needs the released model")
    u, v = np.random.default_rng(7).uniform(0, 2 * np.pi, (2, 3000))
    torus = np.column_stack(
        [(20 + 8 * np.cos(v)) * np.cos(u), (20 + 8 * np.cos(v)) * np.sin(u), 8 * np.sin(v)]
    )
    io.write(tmp_path / "whole.ply", np.rint(torus + 32).astype(np.int64))
    io.write(tmp_path / "metric.ply", 0.05 * torus)
    report = tmp_path / "report.json"
    result = run(tmp_path, "--jobs", 2, "--json", report, "--cuts", 2)
    assert result.exit_code == 0, result.output
    metric, whole = json.loads(report.read_text())["clouds"]
    assert whole["is_lossless"]
    assert len(metric["model_id"]) == 16
    # A float cloud loses what voxelization rounds, and no more.
    assert not metric["is_lossless"]
    assert metric["cuts"][-1]["d1_psnr"] > 60
    for cloud in (metric, whole):
        assert len(cloud["cuts"]) > sum(cut["is_layer_end"] for cut in cloud["cuts"]) >= 5
