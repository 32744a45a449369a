"""The aerial scan that anybody can make again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pccodec.evaluation import aerial
from pccodec.evaluation.aerial import AerialConfig, scan
from pccodec.evaluation.scene import Scene
from pccodec.io import read


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    return np.concatenate(list(scan(AerialConfig(120_000, seed=3))))


def test_exactly_so_many_points_in_their_box(points: np.ndarray) -> None:
    spec = AerialConfig(120_000, seed=3).spec()
    assert points.shape == (120_000, 3)
    assert (points >= spec.low).all()
    assert (points <= spec.high).all()
    np.testing.assert_allclose(points * 100, np.rint(points * 100), atol=1e-5)
    # An area of 120,000 / 14 square metres, seen as a whole.
    side = AerialConfig(120_000).side
    assert side == pytest.approx((120_000 / 14) ** 0.5)
    assert (np.ptp(points[:, :2], axis=0) > 0.95 * side).all()


def test_density_is_uneven(points: np.ndarray) -> None:
    # Square metres, away from the rim.
    places = points[:, :2] - points[:, :2].min(axis=0)
    inner = places[(places > 15).all(axis=1) & (places < 75).all(axis=1)].astype(int) - 15
    counts = np.bincount(inner[:, 0] * 60 + inner[:, 1], minlength=3600)
    assert 9 < counts.mean() < 25
    assert np.percentile(counts, 95) > 2 * np.percentile(counts, 5)


def test_same_seed_same_cloud(monkeypatch: pytest.MonkeyPatch) -> None:
    for points in (1, 5, 3000):
        first, again, other = (
            np.concatenate(list(scan(AerialConfig(points, seed=seed)))) for seed in (1, 1, 2)
        )
        assert len(first) == points
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)
    monkeypatch.setattr(aerial, "_CHUNK", 1000)
    assert [len(chunk) for chunk in scan(AerialConfig(4500))] == [1000, 1000, 250, 1000, 1000, 250]


def test_what_stands_on_the_ground() -> None:
    scene = Scene(1)
    x, y = np.random.default_rng(0).uniform(0, 2000, (2, 200_000))
    echoes = scene.echoes(x, y, np.random.default_rng(1))
    ground = scene.height(x, y)
    above = echoes.first - ground
    assert np.abs(ground).max() < 65
    for low, high, least in [(0, 0.5, 0.2), (3, 12, 0.05), (12, 24, 0.005), (26, 40, 0.0001)]:
        assert ((above >= low) & (above < high)).mean() > least, (low, high)
    # Lakes are level and hardly answer; trees let light through to the ground.
    lake = echoes.strength < 1
    assert 0.01 < lake.mean() < 0.5
    assert echoes.has_last.mean() > 0.02
    np.testing.assert_array_equal(echoes.last, ground)


@pytest.mark.parametrize("suffix", ["npy", "ply", "laz"])
def test_command(suffix: str, tmp_path: Path) -> None:
    if suffix == "laz":
        pytest.importorskip("lazrs")
    path = tmp_path / f"cloud.{suffix}"
    assert aerial.main(["--points", "2000", "--seed", "7", "-o", str(path)]) == 0
    expected = np.concatenate(list(scan(AerialConfig(2000, seed=7))))
    np.testing.assert_allclose(read(path).points, expected, rtol=0, atol=1e-7)


def test_wrong_arguments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert aerial.main(["--points", "0", "-o", str(tmp_path / "a.npy")]) == 3
    assert aerial.main(["--points", "9", "-o", str(tmp_path / "a.doc")]) == 3
    assert capsys.readouterr().err.count("pccodec: error: ") == 2
    assert list(tmp_path.iterdir()) == []
