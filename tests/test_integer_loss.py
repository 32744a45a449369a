"""The measure of what integers cost."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pccodec import io
from pccodec.model import store
from pccodec.training import integer_loss

CHECKPOINT = Path(__file__).parents[1] / "models" / "checkpoints" / f"{store.DEFAULT}.pt"
SAMPLE = Path(__file__).parents[1] / "data" / "human_vox8.ply"


def test_the_shipped_model_loses_little_through_integers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # The measure swaps the networks of the loaded model; leave other tests theirs.
    monkeypatch.setitem(store.load().__dict__, "synthesis", store.load().synthesis)
    points = io.read(SAMPLE).points
    io.write(tmp_path / "part.ply", points[points[:, 1] < np.median(points[:, 1])])
    integer_loss.main(
        ["--checkpoint", str(CHECKPOINT), str(tmp_path / "part.ply"), "--json", str(tmp_path / "loss.json")]
    )
    (row,) = json.loads((tmp_path / "loss.json").read_text())
    assert "part" in capsys.readouterr().out
    assert row["floats"] != row["integers"]
    assert np.abs(np.subtract(row["floats"], row["integers"])[-3:]).max() < 0.3
