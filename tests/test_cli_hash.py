"""The commands hash, index and search."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from pccodec import io
from pccodec.cli import main
from pccodec.hashing import Index
from pccodec.model import store


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], standalone_mode=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three clouds, one of them in a folder of its own."""
    rng = np.random.default_rng(0)
    (tmp_path / "clouds" / "deep").mkdir(parents=True)
    for name, stretch in (("long.ply", (5, 1, 1)), ("tall.npy", (1, 1, 5)), ("deep/flat.xyz", (4, 4, 0.2))):
        io.write(tmp_path / "clouds" / name, rng.uniform(-1, 1, (800, 3)) * stretch)
    return tmp_path / "clouds"


def test_hash_prints_a_line_for_each_cloud(folder: Path) -> None:
    clouds = [folder / "long.ply", folder / "tall.npy"]
    lines = _run("hash", *clouds).stdout.splitlines()
    codes, names = zip(*(line.split("  ") for line in lines), strict=True)
    assert list(names) == [str(cloud) for cloud in clouds]
    assert all(len(code) == 16 and int(code, 16) >= 0 for code in codes)
    assert codes[0] != codes[1]


def test_index_and_search_find_the_cloud(folder: Path, tmp_path: Path) -> None:
    (folder / "notes.md").write_text("no cloud")
    (folder / "broken.ply").write_text("no cloud either")
    index = tmp_path / "clouds.index"
    result = _run("index", folder, "-o", index)
    assert result.exception is None
    found = Index.load(index)
    assert [Path(name).name for name in found.names] == ["flat.xyz", "long.ply", "tall.npy"]
    lines = _run("search", index, folder / "tall.npy", "--top", 2).stdout.splitlines()
    assert len(lines) == 2
    assert lines[0].split()[0] == "0" and lines[0].endswith("tall.npy")
    found_16 = json.loads(_run("search", index, folder / "tall.npy", "--bits", 16, "--json").stdout)
    assert found_16["bits"] == 16 and len(found_16["matches"]) == 3
    assert found_16["matches"][0]["distance"] == 0


def test_search_takes_the_vertical_of_the_index(folder: Path, tmp_path: Path) -> None:
    index = tmp_path / "clouds.index"
    _run("index", folder, "-o", index, "--up", "y")
    assert _run("search", index, folder / "long.ply").stdout.split()[0] == "0"


def test_sizes_are_ignored_on_request(folder: Path, tmp_path: Path) -> None:
    index, larger = tmp_path / "clouds.index", tmp_path / "larger.npy"
    io.write(larger, io.read(folder / "tall.npy").points * 64)
    for option, low, high in (((), 3, 64), (("--ignore-size",), 0, 1)):
        _run("index", folder, "-o", index, *option)
        assert Index.load(index).sized == (not option)
        nearest = _run("search", index, larger).stdout.splitlines()[0]
        assert low <= int(nearest.split()[0]) <= high
        codes = [_run("hash", cloud, *option).stdout.split()[0] for cloud in (folder / "tall.npy", larger)]
        assert low <= (int(codes[0], 16) ^ int(codes[1], 16)).bit_count() <= high


def test_what_cannot_be_used_is_one_clear_error(folder: Path, tmp_path: Path) -> None:
    index = tmp_path / "clouds.index"
    for arguments, words in (
        (("hash", tmp_path / "missing.ply"), "cannot read"),
        (("index", tmp_path / "missing.ply", "-o", index), "cannot read"),
        (("index", tmp_path / "empty", "-o", index), "no clouds"),
        (("search", folder / "long.ply", folder / "long.ply"), "not an index"),
        (("hash", folder / "long.ply", "--model", store.DEFAULT), "not a model for hashing"),
    ):
        (tmp_path / "empty").mkdir(exist_ok=True)
        error = _run(*arguments).exception
        assert error is not None and words in str(error)
        assert not index.exists()


def test_an_index_of_another_model_is_refused(folder: Path, tmp_path: Path) -> None:
    index = tmp_path / "clouds.index"
    Index.of(["a"], [1], bytes(8)).save(index)
    error = _run("search", index, folder / "long.ply").exception
    assert "was made with the model 0000000000000000" in str(error)
