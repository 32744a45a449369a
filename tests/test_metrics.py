"""D1/D2 against pc_error's own results, brute force, and properties that must hold."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from plyfile import PlyData

from pccodec.errors import InputError
from pccodec.evaluation.metrics import Reference, peak_of_depth, peak_value, psnr, table_psnr
from pccodec.evaluation.normals import estimate_normals, smallest_eigenvector

SHARED = Path(__file__).parents[2] / "shared"
CASES = SHARED / "data" / "metric_cases"
ANCHORS = SHARED / "anchors"

# A small grid, so that duplicates and equidistant neighbours are the rule.
coordinates = hnp.arrays(np.int64, st.tuples(st.integers(1, 25), st.just(3)), elements=st.integers(0, 5))


def read_columns(path: Path, *names: str) -> np.ndarray:
    vertex = PlyData.read(path)["vertex"]
    return np.stack([vertex[name] for name in names], axis=1)


def ball(radius: int) -> np.ndarray:
    grid = np.argwhere(np.ones((2 * radius + 1,) * 3, dtype=bool)) - radius
    distance = np.linalg.norm(grid, axis=1)
    return grid[np.abs(distance - radius + 0.5) < 0.5] + radius


def brute_force(reference: np.ndarray, normals: np.ndarray, degraded: np.ndarray) -> list[float]:
    """pc_error's definition, loop by loop, with all ties; inputs hold distinct points."""

    def nearest(point: np.ndarray, others: np.ndarray) -> tuple[float, np.ndarray]:
        squared = ((others - point) ** 2).sum(axis=1)
        return squared.min(), np.flatnonzero(squared == squared.min())

    taken: list[list[np.ndarray]] = [[] for _ in degraded]
    for point, normal in zip(reference, normals, strict=True):
        for j in nearest(point, degraded)[1]:
            taken[j].append(normal)
    transferred = [
        np.mean(own if own else normals[nearest(point, reference)[1]], axis=0)
        for own, point in zip(taken, degraded, strict=True)
    ]

    def direction(a: np.ndarray, b: np.ndarray, b_normals: np.ndarray) -> tuple[float, float]:
        d1, d2 = [], []
        for point in a:
            squared, ties = nearest(point, b)
            d1.append(squared)
            d2.append(np.mean([np.dot(point - b[j], b_normals[j]) ** 2 for j in ties]))
        return float(np.mean(d1)), float(np.mean(d2))

    forward = direction(reference, degraded, np.array(transferred))
    backward = direction(degraded, reference, normals)
    return [forward[0], backward[0], forward[1], backward[1]]


@pytest.mark.skipif(not CASES.exists(), reason="needs the shared metric cases")
def test_equals_pc_error_on_all_cases() -> None:
    with open(ANCHORS / "pc_error_cases.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    path = CASES / rows[0]["reference"]
    reference = Reference(read_columns(path, "x", "y", "z"), read_columns(path, "nx", "ny", "nz"))
    assert len(rows) >= 5
    for row in rows:
        result = reference.compare(read_columns(CASES / row["degraded"], "x", "y", "z"))
        measured = {
            "peak": result.peak,
            "mse_d1_ref_to_deg": result.d1_forward,
            "mse_d1_deg_to_ref": result.d1_backward,
            "d1_psnr": result.d1_psnr,
            "mse_d2_ref_to_deg": result.d2_forward,
            "mse_d2_deg_to_ref": result.d2_backward,
            "d2_psnr": result.d2_psnr,
        }
        expected = {name: float(row[name]) for name in measured}
        assert measured == pytest.approx(expected, rel=1e-6), row["degraded"]


@pytest.mark.skipif(not CASES.exists(), reason="needs the shared metric cases")
def test_estimated_normals_give_the_anchors_d2() -> None:
    # Which of several equally far points is the 16th neighbour is arbitrary, hence the tolerance.
    points = read_columns(CASES / "gargoyle_ref.ply", "x", "y", "z")
    for name, expected in {"octree_half": 68.318, "octree_quarter": 62.299, "trisoup3": 66.657}.items():
        degraded = read_columns(CASES / f"gargoyle_{name}.ply", "x", "y", "z")
        assert Reference(points).compare(degraded).d2_psnr == pytest.approx(expected, abs=0.005)


@pytest.mark.skipif(not ANCHORS.exists(), reason="needs the shared anchors")
@pytest.mark.parametrize(("cloud", "scale"), [("kitti_raw0_2cm", 0.5), ("owl_vox9", 0.25)])
def test_reproduces_octree_anchor_of_an_evaluation_cloud(cloud: str, scale: float) -> None:
    with open(ANCHORS / "gpcc.csv", newline="") as file:
        row = next(
            row
            for row in csv.DictReader(file)
            if (row["cloud"], row["codec"], row["param"]) == (cloud, "gpcc-octree", str(scale))
        )
    points = read_columns(SHARED / "data" / "eval" / f"{cloud}.ply", "x", "y", "z")
    result = Reference(points).compare(np.floor(points * scale + 0.5) / scale)
    assert result.d1_psnr == pytest.approx(float(row["d1_psnr"]), abs=0.0006)
    assert result.d2_psnr == pytest.approx(float(row["d2_psnr"]), abs=0.01)


@settings(deadline=None, max_examples=150)
@given(coordinates, coordinates, st.integers(0, 2**32 - 1))
def test_equals_brute_force_with_ties_and_duplicates(
    reference: np.ndarray, degraded: np.ndarray, seed: int
) -> None:
    normals = np.random.default_rng(seed).normal(size=reference.shape)
    distinct, first = np.unique(reference, axis=0, return_index=True)
    expected = brute_force(distinct, normals[first], np.unique(degraded, axis=0))
    result = Reference(reference, normals).compare(degraded)
    measured = [result.d1_forward, result.d1_backward, result.d2_forward, result.d2_backward]
    assert measured == pytest.approx(expected, rel=1e-9, abs=1e-12)


@settings(deadline=None, max_examples=60)
@given(coordinates, st.randoms(use_true_random=False))
def test_order_and_duplicates_do_not_matter(points: np.ndarray, random: object) -> None:
    order = np.random.default_rng(random.getrandbits(32)).permutation(np.repeat(np.arange(len(points)), 2))  # type: ignore[attr-defined]
    result = Reference(points).compare(points[order])
    assert result.d1_mse == result.d2_mse == 0
    assert math.isinf(result.d1_psnr)
    assert table_psnr(result.d2_psnr) == 99.99


@settings(deadline=None, max_examples=60)
@given(coordinates, coordinates)
def test_d1_is_symmetric_and_bounds_d2(a: np.ndarray, b: np.ndarray) -> None:
    there, back = Reference(a).compare(b), Reference(b).compare(a)
    assert (there.d1_forward, there.d1_backward) == (back.d1_backward, back.d1_forward)
    assert there.d2_forward <= there.d1_forward + 1e-9
    assert there.d2_backward <= there.d1_backward + 1e-9


@settings(deadline=None, max_examples=40)
@given(coordinates, coordinates, st.sampled_from([0.02, 0.5, 1000.0]))
def test_scaling_coordinates_and_peak_keeps_d1_psnr(a: np.ndarray, b: np.ndarray, scale: float) -> None:
    grid = Reference(a, peak=1023).compare(b)
    scaled = Reference(a * scale + 512345.25, peak=1023 * scale).compare(b * scale + 512345.25)
    assert table_psnr(scaled.d1_psnr) == pytest.approx(table_psnr(grid.d1_psnr), abs=1e-4)


def test_one_point_moved_by_hand() -> None:
    plane = np.argwhere(np.ones((9, 9, 1), dtype=bool))
    moved = plane.copy()
    moved[40] += (0, 0, 2)
    result = Reference(plane, np.tile([0.0, 0.0, 1.0], (81, 1))).compare(moved)
    # The lost point is 1 away sideways; the new one is 2 above its own place, along the normal.
    assert result.d1_forward == pytest.approx(1 / 81)
    assert result.d1_backward == result.d2_backward == pytest.approx(4 / 81)
    assert result.d2_forward == 0
    assert result.d1_psnr == pytest.approx(10 * math.log10(3 * 1023**2 * 81 / 4))


def test_more_than_thirty_ties_are_cut_off() -> None:
    # 72 voxels at squared distance 26 around the centre: only 30 of them are looked at.
    cube = np.argwhere(np.ones((15, 15, 15), dtype=bool)) - 7
    sphere = cube[(cube**2).sum(axis=1) == 26]
    assert len(sphere) == 72
    result = Reference(np.zeros((1, 3)), np.array([[0.0, 0, 1]])).compare(sphere)
    assert result.d1_forward == result.d1_backward == 26
    assert 0 <= result.d2_forward <= 26


def test_normals_of_a_sphere_are_radial() -> None:
    points = ball(20).astype(np.float64)
    radial = (points - 20) / np.linalg.norm(points - 20, axis=1, keepdims=True)
    cosine = np.abs((estimate_normals(points) * radial).sum(axis=1))
    assert cosine.mean() > 0.97


@settings(deadline=None)
@given(hnp.arrays(np.float64, (6, 3), elements=st.integers(-9, 9).map(float)))
def test_smallest_eigenvector_is_one(offsets: np.ndarray) -> None:
    matrix = offsets.T @ offsets
    vector = smallest_eigenvector(matrix[None])[0]
    assert np.linalg.norm(vector) == pytest.approx(1)
    quotient = vector @ matrix @ vector
    values = np.linalg.eigvalsh(matrix)
    assert quotient == pytest.approx(values[0], abs=1e-6 * max(1.0, values[2]))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_points(count: int) -> None:
    points = np.eye(3)[:count] * 4
    result = Reference(points).compare(points + (0, 0, 1))
    assert result.d1_mse == 1
    assert result.d2_mse <= 1


@pytest.mark.parametrize(
    ("largest", "smallest", "peak"),
    [(0, 0, 1023), (255, 0, 1023), (1023, 3, 1023), (1024, 0, 2047), (7516, 0, 8191), (600, -600, 2047)],
)
def test_peak_follows_the_bit_depth(largest: int, smallest: int, peak: int) -> None:
    points = np.array([[largest, 0, 0], [smallest, 0, 0]])
    assert peak_value(points) == peak


def test_peak_of_depth() -> None:
    assert [peak_of_depth(bits) for bits in (1, 9, 10, 11, 18)] == [1023, 1023, 1023, 2047, 262143]
    assert psnr(3.0, 1000) == pytest.approx(60)


@pytest.mark.parametrize(
    "points",
    [np.zeros((0, 3)), np.zeros((4, 2)), np.zeros(3), np.array([[0, 0, np.nan]]), np.array([[np.inf, 0, 0]])],
)
def test_unusable_clouds_are_refused(points: np.ndarray) -> None:
    with pytest.raises(InputError):
        Reference(points)
    with pytest.raises(InputError):
        Reference(np.zeros((1, 3))).compare(points)


def test_float_points_need_a_peak_and_normals_need_the_shape() -> None:
    with pytest.raises(InputError, match="peak"):
        Reference(np.array([[0.5, 0, 0]]))
    with pytest.raises(InputError, match="normals"):
        Reference(np.zeros((2, 3)), normals=np.zeros((1, 3)))
