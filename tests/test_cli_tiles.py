"""Clouds in tiles by the commands: encode, info, decode, with several processes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from pccodec import container, io
from pccodec.cli import main

SAMPLE = Path(__file__).parents[1] / "data" / "human_vox8.ply"


def run(*arguments: str) -> str:
    result = CliRunner().invoke(main, ["--quiet", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def tiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tiles") / "tiled.pcc"
    run("encode", str(SAMPLE), "-o", str(out), "--tile-points", "4096")
    assert container.parse(out.read_bytes()).header.tiles
    return out


def same(file: Path, points: np.ndarray) -> bool:
    decoded = io.read(file).points
    return np.array_equal(np.unique(decoded, axis=0), np.unique(points, axis=0))


@pytest.mark.parametrize("suffix", [".ply", ".npy", ".xyz"])
def test_tiles_are_decoded_into_any_format(tiled: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"out{suffix}"
    run("decode", str(tiled), "-o", str(out))
    assert same(out, io.read(SAMPLE).points)


def test_processes_give_the_same_stream_and_cloud(tiled: Path, tmp_path: Path) -> None:
    stream, cloud = tmp_path / "again.pcc", tmp_path / "out.ply"
    run("encode", str(SAMPLE), "-o", str(stream), "--tile-points", "4096", "--jobs", "2")
    assert stream.read_bytes() == tiled.read_bytes()
    run("decode", str(stream), "-o", str(cloud), "--jobs", "2")
    assert same(cloud, io.read(SAMPLE).points)


def test_a_target_cuts_tiles_too(tiled: Path, tmp_path: Path) -> None:
    out = tmp_path / "cut.pcc"
    run("encode", str(SAMPLE), "-o", str(out), "--tile-points", "4096", "--target-bytes", "900")
    assert out.read_bytes() == tiled.read_bytes()[:900]


def test_a_box_of_tiles(tiled: Path, tmp_path: Path) -> None:
    out = tmp_path / "box.ply"
    points = io.read(SAMPLE).points
    low, high = points.min(axis=0), points.min(axis=0) + (points.max(axis=0) - points.min(axis=0)) // 2
    run("decode", str(tiled), "-o", str(out), "--bbox", ",".join(map(str, [*low, *high])))
    assert same(out, points[((points >= low) & (points <= high)).all(axis=1)])


def test_info_shows_tiles(tiled: Path) -> None:
    shown = json.loads(run("info", str(tiled), "--json"))
    assert len(shown["layers"]) == 8


def test_ranks_are_refused_in_tiles(tmp_path: Path) -> None:
    arguments = ["encode", str(SAMPLE), "-o", str(tmp_path / "x.pcc"), "--tile-points", "4096"]
    result = CliRunner().invoke(main, [*arguments, "--ranks", "1,0,0"])
    assert result.exit_code == 3
    assert "tiles" in result.output
    assert not (tmp_path / "x.pcc").exists()
