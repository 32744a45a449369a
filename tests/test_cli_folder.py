"""``pccodec encode`` of a directory, by one process and by several."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from pccodec import codec, io
from pccodec.cli import main


@pytest.fixture
def clouds(tmp_path: Path) -> Path:
    folder = tmp_path / "clouds"
    folder.mkdir()
    rng = np.random.default_rng(1)
    for name in ("a.ply", "b.npy", "c.xyz"):
        flat = rng.integers(0, 30, (300, 2))
        io.write(folder / name, np.column_stack([flat, flat.sum(axis=1) // 4]))
    (folder / "results.csv").write_text("not a cloud\n")
    (folder / "notes.md").write_text("not a cloud\n")
    return folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["encode", *map(str, arguments)])


def streams(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_same_bytes_by_any_number_of_processes(clouds: Path, tmp_path: Path) -> None:
    one = run(clouds, "-o", tmp_path / "deep" / "one", "--voxel-size", "1")
    two = run(clouds, "-o", tmp_path / "two", "--voxel-size", "1", "--jobs", "2")
    assert (one.exit_code, two.exit_code) == (0, 0), one.output + two.output
    found = streams(tmp_path / "two")
    assert set(found) == {"a.pcc", "b.pcc", "c.pcc"}
    assert streams(tmp_path / "deep" / "one") == found
    for path in clouds.iterdir():
        if path.suffix in (".ply", ".npy", ".xyz"):
            points = io.read(path).points
            assert found[f"{path.stem}.pcc"] == codec.encode(points)
    for name in "abc":
        assert f"{name}: 300 points" in two.output


def test_a_broken_cloud_does_not_stop_the_others(clouds: Path, tmp_path: Path) -> None:
    (clouds / "b.npy").write_bytes(b"broken")
    result = run(clouds, "-o", tmp_path / "out")
    assert result.exit_code == 3
    assert "b.npy: not a readable npy" in result.output
    assert "1 of 3 clouds could not be encoded" in result.output
    assert set(streams(tmp_path / "out")) == {"a.pcc", "c.pcc"}


def test_wrong_folders(clouds: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    for source, target, code, message in [
        (clouds, tmp_path / "file", 3, "cannot write to the folder"),
        (tmp_path / "empty", tmp_path / "out", 2, "no clouds"),
    ]:
        result = run(source, "-o", target)
        assert result.exit_code == code
        assert message in result.output
    io.write(clouds / "a.xyz", np.eye(3))
    result = run(clouds, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert "2 of the clouds are named a" in result.output
    assert not (tmp_path / "out").exists()


def test_one_kind_of_workers(clouds: Path, tmp_path: Path) -> None:
    result = run(clouds, "-o", tmp_path / "out", "--jobs", "2", "--scheduler", "tcp://127.0.0.1:1")
    assert result.exit_code == 2
    assert "only one of --jobs and --scheduler" in result.output
