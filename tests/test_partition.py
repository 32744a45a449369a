"""Out-of-core partition: the same grid and voxels as in memory, however the cloud is cut and crowded."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pccodec.errors import InputError
from pccodec.evaluation.aerial import AerialConfig, scan
from pccodec.io import ChunkedCloud, open_chunks, open_writer
from pccodec.io.survey import survey
from pccodec.voxels import partition as module
from pccodec.voxels.grid import voxelize
from pccodec.voxels.partition import partition
from pccodec.voxels.tiles import TiledCloud, tile_level


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs, ranges and blocks of a few points, so that small clouds have many of each."""
    resize(monkeypatch, run=64, step=8, block=50)


def resize(monkeypatch: pytest.MonkeyPatch, *, run: int, step: int, block: int) -> None:
    for name, size in (("_RUN", run), ("_STEP", step), ("_BLOCK", block)):
        monkeypatch.setattr(module, name, size)


def chunked(points: np.ndarray, cuts: list[int]) -> ChunkedCloud:
    return ChunkedCloud(lambda: np.split(points, sorted(cut % (len(points) + 1) for cut in cuts)))


def check(tiled: TiledCloud, points: np.ndarray, tile_points: int, **options: float | None) -> None:
    grid, codes, duplicates = voxelize(points, **options)  # type: ignore[arg-type]
    assert tiled.grid == grid
    assert tiled.duplicates == duplicates
    assert tiled.level == tile_level(codes, grid.bits, tile_points)
    parts = [tile.codes() for tile in tiled.tiles]
    np.testing.assert_array_equal(np.concatenate(parts), codes)
    for tile, part in zip(tiled.tiles, parts, strict=True):
        assert part.dtype == np.uint64
        assert tile.points == len(part)
        assert set((part >> np.uint64(3 * tiled.level)).tolist()) == {tile.code}
    assert len({tile.code for tile in tiled.tiles}) == len(tiled.tiles)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    n=st.integers(1, 300),
    spread=st.sampled_from([2, 9, 60, 4000, 1e5]),
    kind=st.sampled_from(["integers", "floats", "clustered"]),
    cuts=st.lists(st.integers(0, 1000), max_size=6),
    tile_points=st.sampled_from([3, 40, 150, 10_000]),
    options=st.sampled_from([{}, {"bits": 6}, {"bits": 21}, {"voxel_size": 1.0}]),
)
def test_same_as_in_memory(
    seed: int,
    n: int,
    spread: float,
    kind: str,
    cuts: list[int],
    tile_points: int,
    options: dict[str, float],
) -> None:
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(n, 3)) * spread
    if kind == "integers":
        points = np.rint(points)
    if kind == "clustered":
        points[n // 2 :] = points[0] + rng.normal(size=(n - n // 2, 3)) * spread * 1e-3
    with TemporaryDirectory() as folder:
        size, bits = options.get("voxel_size"), options.get("bits")
        tiled = partition(chunked(points, cuts), size, bits, tile_points, Path(folder))  # type: ignore[arg-type]
        check(tiled, points, tile_points, **options)
        assert len(list(Path(folder).iterdir())) == len(tiled.tiles)


def test_sorted_input_and_duplicates(tmp_path: Path) -> None:
    line = np.arange(3000)[:, None] * [1, 0, 0]
    tiled = partition(chunked(np.repeat(line, 2, axis=0), [999]), None, None, 512, tmp_path)
    check(tiled, np.repeat(line, 2, axis=0), 512)
    assert (tiled.level, len(tiled.tiles), tiled.duplicates) == (9, 6, 3000)


def test_the_sample_for_the_voxel_size_does_not_depend_on_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    resize(monkeypatch, run=4096, step=64, block=4096)
    monkeypatch.setattr("pccodec.voxels.density._ALL", 500)
    monkeypatch.setattr("pccodec.voxels.density._CHUNK", 700)
    rng = np.random.default_rng(3)
    # Dense and thin places: a sample of single points would find neighbours too far away.
    points = rng.random((20_000, 3)) * [1, 1, 0.01]
    points[:10_000, :2] *= 0.1
    sizes = set()
    for cuts in ([], [1, 5000, 5001], list(range(0, 20_000, 300))):
        cloud = chunked(points, cuts)
        sizes.add(voxelize(points).grid.scale)
        with TemporaryDirectory() as folder:
            sizes.add(partition(cloud, None, None, 5000, Path(folder)).grid.scale)
    assert sizes == {0.001}


def test_the_survey_does_not_depend_on_chunks() -> None:
    points = np.random.default_rng(0).normal(size=(5000, 3)).astype(np.float32)
    whole = survey([points])
    parts = survey(iter(np.split(points, [3, 3, 40, 4321])))
    assert len(whole.seeds) == 32
    for name in ("points", "is_integer"):
        assert getattr(whole, name) == getattr(parts, name)
    for name in ("low", "high", "seeds"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))
    np.testing.assert_array_equal(whole.low, points.min(axis=0))


def test_integers_are_decided_over_all_chunks(tmp_path: Path) -> None:
    points = np.zeros((4000, 3))
    points[:, 0] = np.arange(4000)
    assert chunked(points, [10, 2000]).survey.is_integer
    points[-1, 2] = 0.5
    cloud = chunked(points, [10, 2000])
    assert not cloud.survey.is_integer
    check(partition(cloud, None, None, 100, tmp_path), points, 100)


@pytest.mark.parametrize(
    ("last", "message"),
    [([np.nan, 0, 0], "1 of 301 points have NaN"), ([2.0**60, 0, 0.5], "finer than float64")],
)
def test_unusable(last: list[float], message: str, tmp_path: Path) -> None:
    points = np.concatenate([np.zeros((300, 3)), [last]])
    with pytest.raises(InputError, match=message):
        partition(chunked(points, [100]), 1e-3, None, 100, tmp_path)
    assert not list(tmp_path.iterdir())


def test_chunks_are_read_anew(tmp_path: Path) -> None:
    passes = []

    def blocks() -> Iterator[np.ndarray]:
        passes.append(1)
        yield np.eye(3, dtype=np.int64)

    tiled = partition(ChunkedCloud(blocks), None, None, 10, tmp_path)
    assert (tiled.points, len(tiled.tiles), len(passes)) == (3, 1, 2)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot write to"):
        partition(chunked(np.eye(3), []), None, None, 10, tmp_path / "none")


def peak_memory(n: int, folder: Path) -> int:
    """Most bytes allocated while an aerial scan is read and cut into tiles, which are written as a cloud."""
    folder.mkdir()
    config = AerialConfig(n, seed=1)
    with open_writer(folder / "cloud.ply", config.spec()) as writer:
        for chunk in scan(config):
            writer.write(chunk)
    tracemalloc.start()
    tiles = folder / "tiles"
    tiles.mkdir()
    tiled = partition(open_chunks(folder / "cloud.ply"), None, None, 10_000, tiles)
    assert tiled.points + tiled.duplicates == n
    assert len(tiled.tiles) > n / 10_000
    with open_writer(folder / "tiles.npy", tiled.grid.spec()) as writer:
        for tile in tiled.tiles:
            writer.write(tiled.grid.points(tile.codes()))
    assert writer.count == tiled.points
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_memory_does_not_grow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("io.cloud.CHUNK", "io.table._ROWS", "evaluation.aerial._CHUNK", "voxels.density._ALL"):
        monkeypatch.setattr(f"pccodec.{name}", 4096)
    resize(monkeypatch, run=4096, step=64, block=4096)
    peak_memory(5_000, tmp_path / "first")  # what is loaded once
    small, large = peak_memory(30_000, tmp_path / "small"), peak_memory(120_000, tmp_path / "large")
    assert large < 1.25 * small
    # The points alone would take more.
    assert large < 24 * 120_000
