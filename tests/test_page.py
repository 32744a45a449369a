"""The results page, from a report with known wins and losses."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.image
import pytest

from pccodec.errors import InputError
from pccodec.evaluation import page
from pccodec.evaluation.anchors import AnchorPoint, Anchors
from pccodec.evaluation.curves import RdCurve, RdPoint
from pccodec.evaluation.metrics import LOSSLESS_PSNR
from pccodec.evaluation.report import Report, compare, from_json, group_means, to_json

ENDS = ((0.01, 50.0), (0.05, 60.0), (0.25, 70.0), (1.0, math.inf))


def make_curve(cloud: str, scale: float) -> RdCurve:
    """A stream that needs ``scale`` times the bytes of ``ENDS``."""
    cuts = []
    for number, (bpp, psnr) in enumerate(ENDS):
        error = 0.0 if math.isinf(psnr) else 3 * 1023**2 / 10 ** (psnr / 10)
        size = round(1000 * scale * bpp)
        cuts.append(
            RdPoint(f"G{3 - number}", number + 1, True, size, scale * bpp, error, error, psnr, psnr, 0.5, 100)
        )
    return RdCurve(cloud, 8000, 1023.0, "0123456789abcdef", 1.5, tuple(cuts))


def make_anchors() -> Anchors:
    files = []
    for bpp, psnr in ENDS:
        quality = LOSSLESS_PSNR if math.isinf(psnr) else psnr - 1
        files.append(AnchorPoint(bpp, quality, quality, 0.25, 9.0, is_wall_time=True, peak_mb=640.0))
    return {"good": {"gpcc-octree": files}, "bad": {"gpcc-octree": files}}


@pytest.fixture
def document() -> str:
    """JSON of one cloud at half the anchor's bytes, and one at twice."""
    curves = [make_curve("good", 0.5), make_curve("bad", 2.0)]
    comparisons = [row for curve in curves for row in compare(curve, make_anchors())]
    means = group_means(comparisons, {"mean": ("*",), "dense": ("good",)})
    return to_json(curves, comparisons, means, "1.2.3", "pccodec eval CLOUDS")


def make_page(text: str, resources: dict[str, Any] | None = None) -> str:
    return page.page(from_json(text), make_anchors(), resources)


def section(text: str, title: str) -> str:
    return text.split(f"## {title}\n")[1].split("\n## ")[0]


def test_report_survives_json(document: str) -> None:
    report = from_json(document)
    assert report.curves == (make_curve("good", 0.5), make_curve("bad", 2.0))
    assert [count for _, count in report.means] == [2, 1]
    again = to_json(report.curves, report.comparisons, report.means, report.version, report.command)
    assert json.loads(again) == json.loads(document)


def test_losses_are_listed_and_wins_are_not(document: str) -> None:
    losses = section(make_page(document), "Where pccodec loses").strip().splitlines()
    assert not [line for line in losses if line.startswith("- good")]
    bad = [line for line in losses if line.startswith("- bad")]
    assert len(bad) == 4
    for line, what in zip(bad, ("D1 BD-rate", "D2 BD-rate", "lossless size", "59.00 dB"), strict=True):
        assert what in line and "G-PCC octree" in line
    assert "+100.00 %" in bad[2]
    # It decodes faster than the anchor, but encodes slower.
    assert [line for line in losses if "Time" in line] == [
        "- Time: encoding takes 1.50 s in the mean, a file of G-PCC octree 0.25 s."
    ]


def test_a_single_smaller_file_is_a_loss_in_spite_of_the_mean() -> None:
    curve, anchors = make_curve("good", 0.5), make_anchors()
    anchors["good"]["gpcc-octree"].append(AnchorPoint(0.01, 60.0, 60.0))
    comparisons = tuple(replace(c, bd_rate_d1=-10.0) for c in compare(curve, anchors))
    report = Report("1", None, None, (curve,), comparisons, ())
    lines = section(page.page(report, anchors, None), "Where pccodec loses").splitlines()
    # 0.025 bpp of the stream against 0.01.
    assert any("60.00 dB at 0.0100 bpp, +150.0 %" in line for line in lines)


def test_no_loss_is_said_too() -> None:
    report = Report("1", None, None, (make_curve("good", 0.5),), (), ())
    assert "By no number" in section(page.page(report, {}, None), "Where pccodec loses")


def test_tables(document: str) -> None:
    text = make_page(document)
    rates = section(text, "BD-rates")
    assert "| cloud | points | D1 G-PCC octree | D2 G-PCC octree |" in rates
    for row in ("| good | 8,000 | −", "| bad | 8,000 | +", "mean of all 2", "mean of 1 dense"):
        assert row in rates
    lossless = section(text, "Lossless")
    assert "| good | G-PCC octree | 500 | 0.5000 | 1.0000 | −50.0 % |" in lossless
    assert "| bad | G-PCC octree | 2,000 | 2.0000 | 1.0000 | +100.0 % |" in lossless
    costs = section(text, "Time and memory")
    assert "| good | 1.5 | 0.5 | 0.5 | 0.2 | 9.0 |" in costs
    assert "encode (clock)" in costs and "640 MB" in costs
    assert "pccodec eval CLOUDS" in text and "0123456789abcdef" in text


def test_resources(document: str) -> None:
    run = {"cpu_seconds": 2.25, "peak_mb": 411.7}
    cloud = {"cloud": "good", "encode": run, "decode": run, "decode_base": run}
    costs = section(make_page(document, {"commit": "abc1234", "clouds": [cloud]}), "Time and memory")
    assert "| good | 2.2 | 412 | 2.2 | 412 | 2.2 | 412 |" in costs and "abc1234" in costs
    with pytest.raises(InputError, match="no report"):
        make_page(document, {"commit": "abc1234", "clouds": [{"cloud": "good"}]})


def test_older_reports_without_a_command_are_read(document: str) -> None:
    old = json.loads(document)
    del old["command"]
    report = from_json(json.dumps(old))
    assert report.command is None and "```sh" not in page.page(report, make_anchors(), None)


@pytest.mark.parametrize("text", ["{}", "[]", "nonsense", '{"clouds": [{"cuts": [{}]}], "means": []}'])
def test_other_files_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="no report of pccodec eval"):
        from_json(text)


def test_command_writes_page_and_plots(document: str, tmp_path: Path) -> None:
    (tmp_path / "eval.json").write_text(document)
    table = ["cloud,codec,bpp,d1_psnr,d2_psnr", *(f"bad,other,{b},{min(q, 99.99)},55" for b, q in ENDS)]
    (tmp_path / "other.csv").write_text("\n".join(table))
    output = tmp_path / "results.md"
    options = [
        "--json",
        "eval.json",
        "--anchors",
        "other.csv",
        "--resources",
        "none.json",
        "-o",
        "results.md",
    ]
    assert page.main([w if w.startswith("-") else str(tmp_path / w) for w in options]) == 0
    text = output.read_text()
    assert text.startswith("# Results\n") and text.endswith("\n") and "nan" not in text
    for metric in ("d1", "d2"):
        assert f"(rd_{metric}.png)" in text
        assert matplotlib.image.imread(tmp_path / f"rd_{metric}.png").ndim == 3


def test_missing_report_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert page.main(["--json", str(tmp_path / "none.json"), "-o", str(tmp_path / "results.md")]) == 3
    assert "none.json" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
