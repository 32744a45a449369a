"""Curves, anchors, reports and plots, with a plain octree as the embedded codec."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from pccodec.errors import InputError
from pccodec.evaluation.anchors import AnchorPoint, read_anchors
from pccodec.evaluation.curves import Layout, RdCurve, measure_curve, plan_cuts
from pccodec.evaluation.plot import plot_curves
from pccodec.evaluation.report import compare, group_means, to_csv, to_json
from tests.octree_codec import OctreeCodec


class ForgetfulCodec(OctreeCodec):
    """Loses a level when it gets the last-but-one layer."""

    def decode(self, data: bytes, max_bytes: int) -> np.ndarray:
        ends = self.layout(data).ends
        return super().decode(data, ends[2] if max_bytes == ends[-2] else max_bytes)


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    grid = np.argwhere(np.ones((64, 64, 64), dtype=bool))
    distance = np.linalg.norm(grid - 31.5, axis=1)
    return grid[np.abs(distance - 28) < 0.8]


@pytest.fixture(scope="module")
def curve(points: np.ndarray) -> RdCurve:
    return measure_curve("ball", points, OctreeCodec(), inner_cuts=4)


def test_one_point_for_each_layer_end(points: np.ndarray, curve: RdCurve) -> None:
    data = OctreeCodec().encode(points)
    ends = curve.layer_ends
    assert [cut.layer for cut in ends] == ["G5", "G4", "G3", "G2", "G1", "G0"]
    assert [cut.layers for cut in ends] == [1, 2, 3, 4, 5, 6]
    assert [cut.size for cut in ends] == list(OctreeCodec().layout(data).ends)
    assert curve.cuts[-1].size == len(data)
    assert curve.model_id == "none"


def test_rate_counts_the_whole_prefix_per_input_point(points: np.ndarray, curve: RdCurve) -> None:
    assert all(cut.bpp == 8 * cut.size / len(points) for cut in curve.cuts)
    doubled = measure_curve("ball", np.repeat(points, 2, axis=0), OctreeCodec())
    assert doubled.points_in == 2 * len(points)
    assert doubled.cuts[-1].bpp == pytest.approx(curve.cuts[-1].bpp / 2)
    assert doubled.is_lossless


def test_quality_of_the_cuts(points: np.ndarray, curve: RdCurve) -> None:
    assert curve.is_lossless
    assert curve.largest_drop == 0
    assert curve.peak == 1023
    assert [cut.size for cut in curve.cuts] == sorted({cut.size for cut in curve.cuts})
    g1 = curve.layer_ends[-2]
    parents = np.unique(points >> 1, axis=0)
    assert g1.points_out == len(parents)
    # Each voxel is (0 or 1, …) away from its parent's corner at (1, 1, 1).
    assert g1.d1_mse == pytest.approx(1.5, abs=0.4)


def test_inner_cuts_lie_inside(curve: RdCurve) -> None:
    inner = [cut for cut in curve.cuts if not cut.is_layer_end]
    assert len(inner) == 4
    for cut in inner:
        following = curve.layer_ends[cut.layers]
        assert cut.layer == following.layer
        assert cut.size < following.size


def test_plan_names_empty_layers_after_the_last_of_them() -> None:
    layout = Layout(("G3", "R3.1", "R3.2", "G2"), (10, 10, 30, 90), depth=4)
    assert [(cut.size, cut.layers, cut.name) for cut in plan_cuts(layout)] == [
        (10, 2, "R3.1"),
        (30, 3, "R3.2"),
        (90, 4, "G2"),
    ]
    inner = [cut for cut in plan_cuts(layout, 2) if cut.size not in layout.ends]
    assert [(cut.size, cut.layers, cut.name) for cut in inner] == [(20, 2, "R3.2"), (43, 3, "G2")]


def test_progress_reaches_all_cuts(points: np.ndarray) -> None:
    calls: list[tuple[int, int]] = []
    measured = measure_curve("ball", points, OctreeCodec(), on_progress=lambda *call: calls.append(call))
    assert calls == [(i + 1, len(measured.cuts)) for i in range(len(measured.cuts))]


def test_falling_quality_is_found(points: np.ndarray) -> None:
    curve = measure_curve("ball", points, ForgetfulCodec())
    quality = [cut.d1_psnr for cut in curve.cuts]
    assert curve.largest_drop == pytest.approx(quality[3] - quality[4])
    assert curve.largest_drop > 3


def test_float_clouds_are_measured_on_their_voxel_grid(points: np.ndarray) -> None:
    class Scaled(OctreeCodec):
        def encode(self, points: np.ndarray) -> bytes:
            return super().encode(np.rint(points / 0.25).astype(np.int64))

        def decode(self, data: bytes, max_bytes: int) -> np.ndarray:
            return super().decode(data, max_bytes) * 0.25

        def layout(self, data: bytes) -> Layout:
            return replace(super().layout(data), voxel_size=0.25)

    exact = measure_curve("ball", points, OctreeCodec())
    scaled = measure_curve("ball", points * 0.25, Scaled())
    assert scaled.peak == 1023 * 0.25
    assert scaled.is_lossless
    assert [c.d1_psnr for c in scaled.cuts] == pytest.approx([c.d1_psnr for c in exact.cuts])


def anchor_at(curve: RdCurve, factor: float) -> list[AnchorPoint]:
    table = [min(cut.d1_psnr, 99.99) for cut in curve.layer_ends]
    return [AnchorPoint(factor * c.bpp, q, c.d2_psnr) for c, q in zip(curve.layer_ends, table, strict=True)]


def test_comparison_with_anchors(curve: RdCurve) -> None:
    anchors = {"ball": {"twice": anchor_at(curve, 2), "once": anchor_at(curve, 1)}, "other": {}}
    twice, once = compare(curve, anchors)
    assert (twice.cloud, twice.anchor) == ("ball", "twice")
    assert twice.bd_rate_d1 == pytest.approx(-50)
    # D2 is not monotone over the coarsest layers, where the rules for unruly points differ.
    assert twice.bd_rate_d2 == pytest.approx(-50, abs=5)
    assert twice.lossless_rate == pytest.approx(-50)
    assert twice.bd_psnr_d1 > 1
    assert once.bd_rate_d1 == pytest.approx(0, abs=1e-9)
    assert compare(curve, {}) == []


def test_inner_cuts_do_not_enter_bd_rate(points: np.ndarray, curve: RdCurve) -> None:
    anchors = {"ball": {"once": anchor_at(curve, 1)}}
    assert len(curve.cuts) > len(curve.layer_ends)
    assert (
        compare(curve, anchors)[0].bd_rate_d1
        == compare(replace(curve, cuts=curve.layer_ends), anchors)[0].bd_rate_d1
    )


def test_lossy_anchor_has_no_lossless_rate(curve: RdCurve) -> None:
    (result,) = compare(curve, {"ball": {"lossy": anchor_at(curve, 1)[:-1]}})
    assert math.isnan(result.lossless_rate)
    assert result.bd_rate_d1 == pytest.approx(0, abs=1e-9)


def test_means_by_group(curve: RdCurve) -> None:
    other = replace(curve, cloud="torus")
    anchors = {
        "ball": {"a": anchor_at(curve, 2), "b": anchor_at(curve, 1)},
        "torus": {"a": anchor_at(curve, 4)},
    }
    comparisons = [*compare(curve, anchors), *compare(other, anchors)]
    means = group_means(comparisons, {"all": ["*"], "round": ["b*", "x*"], "none": ["y"]})
    found = [(mean.cloud, mean.anchor, count, round(mean.bd_rate_d1, 6)) for mean, count in means]
    assert found == [("all", "a", 2, -62.5), ("all", "b", 1, 0), ("round", "a", 1, -50), ("round", "b", 1, 0)]


def test_mean_over_a_gap_is_none(curve: RdCurve) -> None:
    lossy = anchor_at(curve, 1)[:-1]
    comparisons = [
        *compare(curve, {"ball": {"a": anchor_at(curve, 2)}}),
        *compare(replace(curve, cloud="torus"), {"torus": {"a": lossy}}),
    ]
    ((mean, count),) = group_means(comparisons, {"all": ["*"]})
    assert count == 2
    assert math.isnan(mean.lossless_rate)
    assert mean.bd_rate_d1 == pytest.approx(-25)


def test_json_report(curve: RdCurve) -> None:
    comparisons = compare(curve, {"ball": {"lossy": anchor_at(curve, 1)[:-1]}})
    report = json.loads(to_json([curve], comparisons, group_means(comparisons, {"mean": ["*"]}), "1.2.3"))
    cloud = report["clouds"][0]
    assert (report["version"], cloud["cloud"], cloud["model_id"]) == ("1.2.3", "ball", "none")
    assert (cloud["is_lossless"], cloud["largest_drop"]) == (True, 0)
    assert cloud["cuts"][-1]["d1_psnr"] == 99.99
    assert cloud["cuts"][0]["size"] == curve.cuts[0].size
    assert report["comparisons"][0]["lossless_rate"] is None
    assert report["means"][0]["clouds"] == 1


def test_csv_report_is_an_anchor_table(curve: RdCurve, tmp_path: Path) -> None:
    text = to_csv([curve])
    assert len(list(csv.DictReader(io.StringIO(text)))) == len(curve.cuts)
    path = tmp_path / "own.csv"
    path.write_text(text)
    points = read_anchors([path])["ball"]["pccodec"]
    assert [p.bpp for p in points] == pytest.approx([c.bpp for c in curve.cuts], abs=1e-5)
    assert points[-1].is_lossless


def test_times_and_memory_of_anchors(tmp_path: Path) -> None:
    columns = "cloud,codec,bpp,d1_psnr,d2_psnr"
    (tmp_path / "cpu.csv").write_text(f"{columns},enc_cpu_s,dec_cpu_s,peak_rss_mb\nball,x,1,60,61,2,3,450\n")
    (tmp_path / "clock.csv").write_text(f"{columns},enc_s,dec_s\nball,y,1,60,61,4,\n")
    anchors = read_anchors([tmp_path / "cpu.csv", tmp_path / "clock.csv"])["ball"]
    assert anchors["x"] == [AnchorPoint(1, 60, 61, 2, 3, is_wall_time=False, peak_mb=450)]
    assert anchors["y"] == [AnchorPoint(1, 60, 61, 4, math.nan, is_wall_time=True)]


def test_anchor_tables_merge(tmp_path: Path) -> None:
    first, second = tmp_path / "a.csv", tmp_path / "b.csv"
    first.write_text("cloud,codec,bpp,d1_psnr,d2_psnr\nball,x,0.5,60,\nball,x,1,99.99,99.99\n")
    second.write_text("source,cloud,codec,d2_psnr,d1_psnr,bpp\nus,ball,y,66,61,0.25\n")
    anchors = read_anchors([first, second])
    assert anchors["ball"]["y"] == [AnchorPoint(0.25, 61, 66)]
    assert math.isnan(anchors["ball"]["x"][0].d2_psnr)
    assert [p.is_lossless for p in anchors["ball"]["x"]] == [False, True]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cloud,codec,bpp\nball,x,1\n", "d1_psnr"),
        ("", "lacks"),
        ("cloud,codec,bpp,d1_psnr,d2_psnr\nball,x,many,60,60\n", "line 2.*many"),
        ("cloud,codec,bpp,d1_psnr,d2_psnr\nball,x,0,60,60\n", "positive"),
    ],
)
def test_bad_anchor_tables(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_anchors([path])


def test_missing_anchor_table(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        read_anchors([tmp_path / "nowhere.csv"])


@pytest.mark.parametrize("clouds", [1, 5])
def test_plot_is_a_picture_with_content(clouds: int, curve: RdCurve, tmp_path: Path) -> None:
    curves = [replace(curve, cloud=f"ball{i}") for i in range(clouds)]
    anchors = {c.cloud: {"other": anchor_at(c, 2)} for c in curves[:3]}
    path = tmp_path / "rd.png"
    plot_curves(curves, anchors, path)
    picture = matplotlib.image.imread(path)
    height, width = picture.shape[:2]
    assert min(height, width) > 500
    blue = np.array([0x00, 0x72, 0xB2]) / 255
    assert (np.abs(picture[..., :3] - blue).max(axis=2) < 0.02).sum() > 500 * clouds


def test_plot_of_a_cloud_that_is_lossless_at_once(tmp_path: Path) -> None:
    point = measure_curve("point", np.zeros((1, 3), dtype=np.int64), OctreeCodec())
    at_once = replace(point, cuts=point.cuts[-1:])
    assert at_once.is_lossless
    plot_curves([at_once], {}, tmp_path / "rd.png")
    assert matplotlib.image.imread(tmp_path / "rd.png").size > 0
