"""The studies run, compare like with like, and write what the page reads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pccodec.hashing.descriptor import CELLS, FREQUENCIES
from pccodec.studies import digits, page
from pccodec.studies import shapes as shape_study
from pccodec.studies.arms import LENGTHS, RESULTS, Arm, arms, in_all_lengths, write_results
from pccodec.training.hashing import HashTraining
from pccodec.training.shape_descriptors import ShapeDescriptors


def test_arms_differ_in_what_they_name() -> None:
    every = list(arms())
    assert len({arm.name for arm in every}) == len(every) == 15
    assert {arm.balance for arm in every} == {"none", "rescaling", "masked optimizer", "both"}
    layer = Arm("geometric", rescale=True).layer()
    assert layer.rescale and layer.distribution[:8].sum() == 0
    assert layer.distribution[24] == pytest.approx(float(layer.distribution[8]) / 2)
    assert [m for m, _ in Arm("matryoshka").lengths(Arm("matryoshka").layer())] == list(range(8, 65))
    assert Arm("lengths").lengths(Arm("lengths").layer()) == [(m, 0.25) for m in LENGTHS]
    weighted = Arm("weighted").lengths(Arm("weighted").layer())
    assert weighted == [(8, 0.375), (16, 0.25), (32, 0.1875), (64, 0.1875)]
    assert len(Arm("uniform").lengths(Arm("uniform").layer())) == 1
    assert Arm("separate").lengths(Arm("separate").layer(16)) == [(16, 1.0)]


def test_all_lengths_at_once_are_each_in_turn() -> None:
    layer, features = Arm("lengths").layer(), torch.randn(3, 64)
    expected = torch.cat([layer(features, m) for m in (8, 64)])
    assert torch.equal(in_all_lengths(layer, features, (8, 64)), expected)


@pytest.mark.parametrize(
    "arm", [Arm("separate"), Arm("uniform", True, True, "sgd"), Arm("matryoshka"), Arm("weighted")]
)
def test_digits_rows(arm: Arm) -> None:
    pytest.importorskip("sklearn")
    rows = list(digits.run(arm, 0, digits.Setting(steps=30, batch=32)))
    assert [row["bits"] for row in rows] == list(LENGTHS)
    assert all(10 < row["map"] <= 100 and 10 < row["p10"] <= 100 for row in rows)
    assert rows[3]["map"] > 25  # chance is 10
    assert rows == [{**row, "arm": arm.name, "seed": 0} for row in rows]


def _descriptors(meshes: int = 12, captures: int = 6) -> ShapeDescriptors:
    """Random shapes and captures that differ from them a little."""
    rng = np.random.default_rng(0)

    def some(*shape: int) -> np.ndarray:
        return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)

    base = some(meshes, FREQUENCIES, CELLS + 1)

    def capture() -> np.ndarray:
        return base + 0.1 * some(*base.shape)

    queries = {"noise and rotation": capture()}
    names = [str(mesh) for mesh in range(meshes)]
    training = np.stack([capture() for _ in range(captures)])
    same = np.eye(meshes, dtype=bool)
    return ShapeDescriptors(names, training, capture(), queries, same, same)


def test_shape_rows() -> None:
    setting = shape_study.Setting(every=2)
    task = shape_study.Task.of(_descriptors(), setting)
    assert task.relevant.shape == (6, 24) and (task.relevant.sum(1) == 4).all()
    assert task.shapes.training.shape == (2, 6, FREQUENCIES, CELLS)
    config = replace(setting.training, steps=20, batch=6, moduli=2, turned=2, widths=(16, 8))
    for arm in (Arm("uniform", True, True), Arm("separate")):
        rows = list(shape_study.run(arm, 1, task, config))
        assert [row["bits"] for row in rows] == list(LENGTHS)
        assert rows[3]["p1"] > 50  # chance is 17


def test_the_released_setting_has_the_budget_of_the_study() -> None:
    setting = shape_study.Setting()
    released = setting.released()
    assert released.training.sharpness == HashTraining().sharpness != setting.training.sharpness
    assert released.training.neighbors and not setting.training.neighbors
    back = replace(released.training, sharpness=setting.training.sharpness, neighbors=False)
    assert replace(released, training=back) == setting
    task = shape_study.Task.of(_descriptors(), setting)
    config = replace(released.training, steps=3, batch=6, moduli=2, turned=2, widths=(16, 8))
    assert len(list(shape_study.run(Arm("lengths"), 0, task, config))) == len(LENGTHS)


def test_the_masked_optimizer_changes_the_outcome_and_repeats() -> None:
    task = shape_study.Task.of(_descriptors(), shape_study.Setting(every=2))
    config = replace(shape_study.Setting().training, steps=6, batch=6, moduli=2, turned=2, widths=(16, 8))
    plain, again, masked = (
        shape_study.train_arm(arm, 64, task, config).layers[2][0]
        for arm in (Arm("uniform"), Arm("uniform"), Arm("uniform", masked=True))
    )
    assert np.array_equal(plain, again)
    assert not np.array_equal(plain, masked)


def test_results_are_json_with_a_row_a_line(tmp_path: Path) -> None:
    rows = [{"arm": "a", "seed": 0}, {"arm": "b", "seed": 1}]
    write_results(tmp_path / "r.json", "digits", {"steps": 3}, rows)
    text = (tmp_path / "r.json").read_text()
    assert json.loads(text) == {"study": "digits", "setting": {"steps": 3}, "rows": rows}
    assert sum(line.strip().startswith('{"arm"') for line in text.splitlines()) == 2


def _rows() -> list[dict[str, object]]:
    """Results of two arms and two seeds; uniform loses 1 and 3 points at 8 bits, and nothing elsewhere."""
    return [
        {
            "arm": arm,
            "optimizer": "adam",
            "seed": seed,
            "bits": bits,
            "map": 90.0 + bits / 8 + seed - (arm != "separate") * (bits == 8) * (1 + 2 * seed),
            "p10": 50.0,
            "p1": 50.0,
            "cpu_s": 2.0,
        }
        for arm in ("separate", "uniform, none")
        for seed in (0, 1)
        for bits in LENGTHS
    ]


def test_tables_say_means_spreads_and_costs() -> None:
    lines = page.arm_table(_rows(), "map").splitlines()
    assert lines[0] == "| arm | 8 bits | 16 bits | 32 bits | 64 bits | CPU s |"
    assert lines[2] == "| separate | 91.5 ± 0.7 | 92.5 ± 0.7 | 94.5 ± 0.7 | 98.5 ± 0.7 | 8.0 |"
    assert lines[3].endswith("| 2.0 |")
    cost = page.cost_table(_rows(), "map").splitlines()
    assert cost[2:] == ["| uniform, none | -2.0 ± 1.4 | +0.0 ± 0.0 | +0.0 ± 0.0 | +0.0 ± 0.0 | -2.0 |"]


def test_the_page_keeps_what_is_written_by_hand(tmp_path: Path) -> None:
    write_results(tmp_path / "masklayer_digits.json", "digits", {}, _rows())
    text = "# Title\n\nby hand\n<!-- digits map -->\nold\n<!-- end -->\nmore\n"
    (tmp_path / "page.md").write_text(text)
    arguments = ["--results", str(tmp_path), "--page", str(tmp_path / "page.md")]
    assert page.main([*arguments, "--model", str(tmp_path / "none.json")]) == 0
    written = (tmp_path / "page.md").read_text()
    assert written.startswith("# Title\n\nby hand\n<!-- digits map -->\n| arm |")
    assert written.endswith("|\n<!-- end -->\nmore\n") and "old" not in written
    assert (tmp_path / "masklayer_digits.png").stat().st_size > 1000
    assert page.main([*arguments, "--model", str(tmp_path / "none.json")]) == 0
    assert (tmp_path / "page.md").read_text() == written
    (tmp_path / "page.md").write_text("<!-- nonsense -->\n<!-- end -->")
    assert page.main(arguments) == 3


def test_the_committed_page_is_up_to_date() -> None:
    text = page.PAGE.read_text()
    assert page.fill(text, page.tables(RESULTS, page.MODEL_CARD)) == text
