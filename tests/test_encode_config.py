"""The options of encoding are the same in the library, in the command, and for clouds in chunks."""

from __future__ import annotations

import inspect
import io
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from pccodec import codec
from pccodec.cli.encode import encode_command
from pccodec.codec.config import EncodeConfig
from pccodec.codec.whole import encode_chunks
from pccodec.errors import InputError
from pccodec.io import open_chunks, write
from pccodec.work import Serial


@pytest.fixture(scope="module")
def sheet() -> np.ndarray:
    """One voxel thick: int64 (1,600, 3)."""
    x, y = np.meshgrid(np.arange(40), np.arange(40), indexing="ij")
    return np.stack([x, y, (x + y) // 3], axis=-1).reshape(-1, 3).astype(np.int64)


def test_defaults_are_the_same_everywhere() -> None:
    defaults = asdict(EncodeConfig())
    signature = inspect.signature(codec.encode).parameters
    assert {name: signature[name].default for name in signature if name != "points"} == defaults
    of_command = {option.name: option.default for option in encode_command.params}
    shown = {name: of_command[name] for name in ("effort", "tile_points")}
    assert shown == {name: defaults[name] for name in shown}


@pytest.mark.parametrize(
    "config",
    [
        EncodeConfig(effort=1),
        EncodeConfig(bits=5, ranks=(1, 0, 0), tile_points=None),
        EncodeConfig(effort=1, tile_points=300),
    ],
)
def test_every_option_reaches_the_encoder(sheet: np.ndarray, tmp_path: Path, config: EncodeConfig) -> None:
    write(tmp_path / "sheet.ply", sheet)
    out = io.BytesIO()
    encode_chunks(open_chunks(str(tmp_path / "sheet.ply")), out, tmp_path, Serial(), config)
    assert out.getvalue() == codec.encode(sheet, **asdict(config))
    assert out.getvalue() != codec.encode(sheet)


def test_only_distinct_voxels_make_tiles(sheet: np.ndarray, tmp_path: Path) -> None:
    config = EncodeConfig(effort=1, tile_points=len(sheet))
    write(tmp_path / "sheet.ply", np.concatenate([sheet, sheet]))
    out = io.BytesIO()
    encode_chunks(open_chunks(str(tmp_path / "sheet.ply")), out, tmp_path, Serial(), config)
    assert out.getvalue() == codec.encode(sheet, effort=1, tile_points=None)


def test_ranks_in_tiles_are_refused() -> None:
    EncodeConfig(ranks=(0, 0, 0), tile_points=300).refuse_ranks_in_tiles()
    with pytest.raises(InputError, match="300 points"):
        EncodeConfig(ranks=(1, 0, 0), tile_points=300).refuse_ranks_in_tiles()
