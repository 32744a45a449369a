"""The demo shows what prefixes of a stream are worth and proves the whole one lossless."""

from __future__ import annotations

import io as text_io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from pccodec import codec, container, io
from pccodec.evaluation import demo


@pytest.fixture
def cloud(tmp_path: Path) -> Path:
    x, y = np.meshgrid(np.arange(30), np.arange(30), indexing="ij")
    points = np.stack([x, y, (x * y) // 60], axis=-1).reshape(-1, 3)
    io.write(tmp_path / "saddle.ply", points)
    return tmp_path / "saddle.ply"


def run(cloud: Path, output: Path) -> str:
    console = Console(file=text_io.StringIO(), width=100)
    demo.run(cloud, output, console)
    assert isinstance(console.file, text_io.StringIO)
    return console.file.getvalue()


def test_demo_shows_cuts_and_writes_clouds(cloud: Path, tmp_path: Path) -> None:
    text = run(cloud, tmp_path / "out")
    assert "lossless" in text and "exactly the points of the input" in text
    data = (tmp_path / "out" / "saddle.pcc").read_bytes()
    sizes = demo.cuts(container.parse(data))
    assert len(sizes) >= 4 and sizes[-1] == len(data)
    for size in sizes:
        assert f"{size:,}" in text
        assert len(io.read(tmp_path / "out" / f"saddle_{size}.ply"))


def test_demo_fails_where_the_cloud_does_not_come_back(
    cloud: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    decode = codec.decode
    monkeypatch.setattr(codec, "decode", lambda data: decode(data)[1:])
    assert demo.main([str(cloud), "-o", str(tmp_path / "out")]) == 1
    assert "did not give the cloud back" in capsys.readouterr().err


def test_place_names_the_layer_of_a_cut() -> None:
    header = container.Header(3, (9, 5, 2), (0, 0, 0), bytes(8))
    stream = container.parse(container.pack(header, [b"ab", b"cde", b"f"], dict.fromkeys(range(3), 0)))
    start = stream.layers[0].offset
    places = [demo.place(stream, start + size) for size in (0, 1, 2, 3, 5, 6)]
    assert places == ["start of G2", "within G2", "G2", "within G1", "G1", "G0"]
