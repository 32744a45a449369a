"""Voxelization: exact integer grids, float grids within half a voxel, and unusable input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pccodec.errors import InputError
from pccodec.io.cloud import ChunkedCloud
from pccodec.voxels import density, morton
from pccodec.voxels.grid import Grid, voxelize


def surface(n: int, seed: int = 0) -> np.ndarray:
    """Random points on the unit sphere: n / (4π) points per unit of area."""
    points = np.random.default_rng(seed).normal(size=(n, 3))
    unit: np.ndarray = points / np.linalg.norm(points, axis=1, keepdims=True)
    return unit


def default_voxel_size(points: np.ndarray) -> float:
    return density.default_voxel_size(ChunkedCloud.of(points))


def distance_to_decoded(points: np.ndarray, grid: Grid, codes: np.ndarray) -> float:
    """Largest distance, along an axis, of any point to the decoded point of its voxel."""
    index = np.rint((points - np.array(grid.origin)) / grid.scale)
    place = np.searchsorted(codes, morton.encode(index))
    return float(np.abs(grid.points(codes)[place] - points).max())


def assert_is_valid(grid: Grid, codes: np.ndarray) -> None:
    assert codes.dtype == np.uint64
    assert (codes[1:] > codes[:-1]).all()
    highest = int(morton.decode(codes).max())
    assert highest < 2**grid.bits
    assert grid.bits == max(1, highest.bit_length())


def integer_clouds(low: int, high: int) -> st.SearchStrategy[np.ndarray]:
    shape = st.tuples(st.integers(1, 30), st.just(3))
    return hnp.arrays(np.int64, shape, elements=st.integers(low, high))


class TestIntegerClouds:
    @given(integer_clouds(-(2**20), 2**20 - 1), st.sampled_from([np.int64, np.int32, np.float64, np.float32]))
    def test_round_trip_is_exact(self, points: np.ndarray, dtype: type) -> None:
        grid, codes, duplicates = voxelize(points.astype(dtype))
        assert grid.is_integer
        assert grid.scale == 1
        assert_is_valid(grid, codes)
        decoded = grid.points(codes)
        assert decoded.dtype == np.int64
        distinct = np.unique(points, axis=0)
        np.testing.assert_array_equal(np.unique(decoded, axis=0), distinct)
        assert duplicates == len(points) - len(distinct)

    @given(integer_clouds(0, 2**21 - 1))
    def test_the_own_grid_is_kept(self, points: np.ndarray) -> None:
        grid, codes, _ = voxelize(points)
        assert grid.origin == (0, 0, 0)
        np.testing.assert_array_equal(codes, np.unique(morton.encode(points)))

    def test_negative_and_large_coordinates_start_at_the_minimum(self) -> None:
        for points in ([[-3, 5, 7], [4, 6, 9]], [[4_500_000, 5, 7], [4_500_007, 6, 9]]):
            grid, codes, _ = voxelize(points)
            assert grid.origin == tuple(np.min(points, axis=0))
            assert grid.bits == 3
            np.testing.assert_array_equal(np.unique(grid.points(codes), axis=0), points)

    def test_largest_extent(self) -> None:
        far = 2**53 - 1
        grid, codes, _ = voxelize([[far - (2**21 - 1), 0, 0], [far, 0, 0]])
        assert grid.bits == 21
        assert grid.points(codes)[:, 0].tolist() == [far - (2**21 - 1), far]
        with pytest.raises(InputError, match=r"span 2097152 units.*voxel size of at least 1\.01"):
            voxelize([[0, 0, 0], [2**21, 0, 0]])

    def test_beyond_what_is_exact(self) -> None:
        for points in (np.array([[2**63 - 1, 0, 0]]), np.array([[2**64 - 1, 0, 0]], np.uint64)):
            with pytest.raises(InputError, match=r"beyond ±2\^53"):
                voxelize(points)
        with pytest.raises(InputError, match="span"):
            voxelize([[-(2**53), 0, 0], [2**53, 0, 0]])

    def test_options_leave_the_grid_only_if_they_must(self) -> None:
        points = np.array([[100, 0, 0], [355, 255, 9]])
        assert voxelize(points, voxel_size=1).grid.is_integer
        assert voxelize(points, bits=10).grid == Grid((0, 0, 0), 1, 9, True)
        assert voxelize(points, bits=8).grid == Grid((100, 0, 0), 1, 8, True)
        assert voxelize(points, bits=4).grid == Grid((100, 0, 0), 255 / 15, 4, False)
        assert voxelize(points, voxel_size=2).grid == Grid((100, 0, 0), 2, 8, False)


class TestFloatClouds:
    @settings(deadline=None)
    @given(
        hnp.arrays(
            np.float64,
            st.tuples(st.integers(1, 30), st.just(3)),
            elements=st.floats(-1e7, 1e7, allow_subnormal=False),
        ),
        st.sampled_from([{}, {"bits": 1}, {"bits": 10}, {"bits": 21}, {"voxel_size": 50.5}]),
    )
    @example(np.array([[0, 0, 0], [1e7, 0, 1]]), {"bits": 21})
    def test_within_half_a_voxel(self, points: np.ndarray, options: dict[str, float]) -> None:
        # A cloud of floats stays one where hypothesis draws integers only.
        points = np.add(points, [0.0, 0.0, 0.5])
        grid, codes, duplicates = voxelize(points, **options)  # type: ignore[arg-type]
        assert_is_valid(grid, codes)
        assert len(codes) + duplicates == len(points)
        slack = 4 * np.spacing(np.abs(points).max())
        assert distance_to_decoded(points, grid, codes) <= grid.scale / 2 + slack

    @settings(deadline=None)
    @given(hnp.arrays(np.float64, (4, 3), elements=st.floats(allow_nan=False, allow_infinity=False)))
    def test_any_finite_floats_give_a_grid_or_an_error(self, points: np.ndarray) -> None:
        try:
            grid, codes, _ = voxelize(points)
        except InputError:
            return
        assert_is_valid(grid, codes)
        assert np.isfinite(grid.points(codes)).all()

    def test_utm_coordinates(self) -> None:
        points = surface(2000) * 40 + [654321.123, 5412345.678, 312.5]
        for voxel_size in (0.001, 0.01, 0.5):
            grid, codes, _ = voxelize(points, voxel_size)
            assert grid.scale == voxel_size
            assert distance_to_decoded(points, grid, codes) <= voxel_size / 2 + 1e-8

    def test_bits_span_the_longest_axis(self) -> None:
        grid, codes, _ = voxelize([[0.5, 0, 0], [10.5, 1, 2]], bits=7)
        assert (grid.bits, grid.origin) == (7, (0.5, 0, 0))
        assert grid.scale == pytest.approx(10 / 127)
        np.testing.assert_allclose(grid.points(codes).max(axis=0), [10.5, 1, 2], atol=grid.scale / 2)

    def test_single_point_and_equal_points(self) -> None:
        for n in (1, 7):
            points = np.tile([0.25, -1e6, 3.1], (n, 1))
            for options in ({}, {"voxel_size": 1e-12}, {"bits": 21}):
                grid, codes, duplicates = voxelize(points, **options)
                assert (grid.bits, duplicates, codes.tolist()) == (1, n - 1, [0])
                np.testing.assert_array_equal(grid.points(codes), points[:1])

    def test_plane_and_line(self) -> None:
        points = np.random.default_rng(0).random((5000, 3))
        for flat in (points * [1, 1, 0], points * [0, 1, 0] + [0, 0, 7.5]):
            grid, codes, _ = voxelize(flat)
            assert_is_valid(grid, codes)
            assert distance_to_decoded(flat, grid, codes) <= grid.scale / 2 + 1e-12

    def test_unusable(self) -> None:
        cloud = surface(10)
        for points, options, message in [
            (np.empty((0, 3)), {}, "no points"),
            ([[np.nan, 0, 0]], {}, "NaN"),
            ([[np.inf, 0, 0]], {}, "infinite"),
            (cloud, {"voxel_size": 1e-9}, "needs more than 21 bits"),
            (cloud + 1e15, {"voxel_size": 1e-3}, "finer than float64 resolves"),
            (cloud, {"voxel_size": 0}, "must be positive"),
            (cloud, {"voxel_size": float("nan")}, "must be positive"),
            (cloud, {"bits": 0}, "bits must be 1 to 21"),
            (cloud, {"bits": 22}, "bits must be 1 to 21"),
            (cloud, {"bits": 10, "voxel_size": 1}, "not both"),
            ([[-1.7e308, 0, 0], [1.7e308, 0, 0.5]], {}, "beyond 1e[+]300"),
        ]:
            with pytest.raises(InputError, match=message):
                voxelize(points, **options)  # type: ignore[arg-type]

    def test_the_size_that_an_error_suggests_works(self) -> None:
        cloud = surface(10)
        with pytest.raises(InputError) as caught:
            voxelize(cloud, 1e-9)
        suggested = float(str(caught.value).split("at least ")[1].split(",")[0])
        assert voxelize(cloud, suggested).grid.bits == 21


class TestDefaultVoxelSize:
    def test_median_distance_rounded_down(self) -> None:
        # On a surface with d points per unit of area the median distance is √(ln 2 / (π d)):
        # 0.0166 for 10,000 points on the unit sphere.
        points = surface(10_000)
        assert default_voxel_size(points) == 0.01
        assert default_voxel_size(points * 1000 + 5e6) == 10
        assert voxelize(points).duplicates < 0.3 * len(points)

    def test_parts_of_a_large_cloud_suffice(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("pccodec.voxels.density._ALL", 10_000)
        assert default_voxel_size(surface(150_000)) == default_voxel_size(surface(150_000)[:140_000]) == 0.002

    def test_scaled_voxel_grid_is_found(self) -> None:
        voxels = np.unique(np.rint(surface(20_000) * 30), axis=0)
        points = (voxels * 0.037 + 12.34).astype(np.float32)
        grid, codes, duplicates = voxelize(points)
        assert grid.scale == pytest.approx(0.037, rel=1e-5)
        assert (len(codes), duplicates) == (len(voxels), 0)

    def test_equal_points_do_not_count(self) -> None:
        points = surface(10_000)
        assert default_voxel_size(np.repeat(points, 3, axis=0)) == default_voxel_size(points)

    def test_outliers_make_it_coarser(self) -> None:
        points = np.concatenate([surface(1000) * 1e-6, [[3e6, 0, 0.5]]])
        assert default_voxel_size(points) == 2
        assert voxelize(points).grid.bits == 21


class TestGrid:
    @pytest.mark.parametrize(
        "fields",
        [
            ((0, 0, 0), 1, 0, True),
            ((0, 0, 0), 1, 22, True),
            ((0, 0, 0), 0, 8, False),
            ((0, 0, 0), float("nan"), 8, False),
            ((float("inf"), 0, 0), 1, 8, False),
            ((0.5, 0, 0), 1, 8, True),
            ((0, 0, 0), 2, 8, True),
            ((2.0**60, 0, 0), 1, 8, True),
        ],
    )
    def test_contradictions(self, fields: tuple[tuple[float, float, float], float, int, bool]) -> None:
        with pytest.raises(InputError):
            Grid(*fields)


def test_a_million_points() -> None:
    points = surface(1_000_000) * 1000
    grid, codes, duplicates = voxelize(points)
    assert_is_valid(grid, codes)
    assert len(codes) + duplicates == 1_000_000
    assert distance_to_decoded(points, grid, codes) <= grid.scale / 2 + 1e-9
