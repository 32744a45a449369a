"""What ranks could gain at best."""

from __future__ import annotations

from typing import Any

from pccodec.evaluation.ranks import bounds


def _rows(*points: tuple[str, float, int, float]) -> list[dict[str, Any]]:
    return [
        {"cut": cut, "share": share, "bytes": size, "d1_psnr": quality}
        for cut, share, size, quality in points
    ]


def test_a_stream_that_rises_evenly_is_its_own_bound_and_a_late_one_is_not() -> None:
    ends = [("G3", 1.0, 1000, 60.0), ("G2", 1.0, 2000, 64.0), ("G1", 1.0, 6000, 72.0)]
    even = [("G2", 0.25, 1250, 61.0), ("G2", 0.5, 1500, 62.0), ("G2", 0.75, 1750, 63.0)]
    even += [("G1", 0.25, 3000, 66.0), ("G1", 0.5, 4000, 68.0), ("G1", 0.75, 5000, 70.0)]
    late = [(cut, share, size, quality - 0.5) for cut, share, size, quality in even]
    last = [("G0", 0.5, 9000, 75.0)]

    def found(inner: list[tuple[str, float, int, float]]) -> dict[str, float]:
        return bounds(_rows(*sorted([*ends, *inner, *last], key=lambda row: row[2])))

    assert abs(found(even)["bound_linear"]) < 0.01
    assert found(late)["bound_linear"] < -3
    assert found(even)["bound_half"] < found(even)["bound_linear"]
