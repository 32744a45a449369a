"""Commands on URLs: what they fetch, and what they say when it does not arrive."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from pccodec import codec, container
from pccodec.cli import main
from tests.range_server import Served, serve


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    """Points all over a cube, which take more bytes than one request fetches."""
    return np.unique(np.random.default_rng(0).integers(0, 128, (5000, 3)), axis=0)


@pytest.fixture(scope="module")
def stream(points: np.ndarray) -> bytes:
    data = codec.encode(points)
    assert len(data) > 6000
    return data


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def fetched(result: Result) -> tuple[int, int]:
    match = re.search(r"([\d,]+) bytes fetched in (\d+) requests", result.stderr)
    assert match, result.stderr
    return int(match[1].replace(",", "")), int(match[2])


def test_info_reads_the_header_alone(stream: bytes) -> None:
    with serve(stream) as served:
        result = run("-v", "info", served.url, "--json")
        assert result.exit_code == 0, result.stderr
        facts = json.loads(result.stdout)
        assert facts["bytes"] == facts["bytes_here"] == len(stream) and facts["is_complete"]
        assert fetched(result) == (4096, 1) and served.asked == [(0, 4096)]
        assert "fetched" not in run("info", served.url).stderr


def test_info_of_a_prefix(stream: bytes) -> None:
    layer = container.parse(stream).layers[-1]
    with serve(stream) as served:
        for option, value, size in (("--max-bytes", 5000, 5000), ("--layers", 6, layer.offset)):
            facts = json.loads(run("info", served.url, "--json", option, value).stdout)
            assert facts["bytes_here"] == size and facts["bytes"] == len(stream)
        assert {stop for _, stop in served.asked} == {4096}


def test_info_of_a_huge_file_reads_the_header_alone(stream: bytes, tmp_path: Path) -> None:
    path = tmp_path / "huge.pcc"
    with path.open("wb") as file:
        file.write(stream)
        file.truncate(20 << 30)  # takes no room on the disk
    facts = json.loads(run("info", path, "--json").stdout)
    assert facts["trailing_bytes"] == (20 << 30) - len(stream) and facts["is_complete"]


def test_decode_fetches_the_prefix_that_it_uses(stream: bytes, tmp_path: Path) -> None:
    output = tmp_path / "out.npy"
    layer = container.parse(stream).layers[-1]
    with serve(stream) as served:
        for option, value, size in (
            ("--max-bytes", 5000, 5000),
            ("--layers", len(container.parse(stream).layers) - 1, layer.offset),
        ):
            result = run("-v", "decode", served.url, "-o", output, option, value)
            assert result.exit_code == 0, result.stderr
            assert fetched(result) == (max(4096, size), 2 if size > 4096 else 1)
            assert np.array_equal(np.load(output), codec.decode(stream[:size]))


def test_truncate_fetches_what_it_keeps(stream: bytes, tmp_path: Path) -> None:
    output = tmp_path / "cut.pcc"
    with serve(stream) as served:
        result = run("-v", "truncate", served.url, "-o", output, "--bytes", 5000)
        assert fetched(result) == (5000, 2) and output.read_bytes() == stream[:5000]
        assert f"5,000 of {len(stream):,} bytes kept" in result.stderr


def test_a_server_that_ignores_ranges(stream: bytes, points: np.ndarray, tmp_path: Path) -> None:
    with serve(stream + bytes(90 << 20), ranges=False) as served:
        result = run("-v", "decode", served.url, "-o", tmp_path / "out.npy")
        assert result.exit_code == 0, result.stderr
        assert fetched(result) == (len(stream), 1)
        assert np.array_equal(np.unique(np.load(tmp_path / "out.npy"), axis=0), points)


def test_a_server_that_cuts_the_connection(stream: bytes, tmp_path: Path) -> None:
    output = tmp_path / "out.npy"
    with serve(stream, ranges=False, cut_after=5500) as served:
        result = run("decode", served.url, "-o", output)
        assert result.exit_code == 8 and not output.exists() and len(result.stderr.splitlines()) == 1
        assert "the connection was cut at byte 5,500; --allow-partial" in result.stderr
        result = run("decode", served.url, "-o", output, "--allow-partial")
        assert result.exit_code == 0 and "warning" in result.stderr
        assert np.array_equal(np.load(output), codec.decode(stream[:5500]))
        result = run("truncate", served.url, "-o", output, "--bytes", 6000, "--allow-partial")
        assert result.exit_code == 0 and output.read_bytes() == stream[:5500]


def test_a_header_that_did_not_arrive(stream: bytes) -> None:
    with serve(stream, ranges=False, cut_after=20) as served:
        assert run("info", served.url).exit_code == 8
        result = run("info", served.url, "--allow-partial")
        assert result.exit_code == 4 and "cut short" in result.stderr


@pytest.mark.parametrize(
    "behaviour",
    [
        {"status": 404},
        {"headers": {"Content-Range": "bytes 9-9/9"}},
        {"headers": {"Content-Length": "-1"}},
        {"location": "/cloud.pcc"},
    ],
)
def test_errors_are_one_line_and_exit_code_8(behaviour: dict[str, object], stream: bytes) -> None:
    with serve(stream, **behaviour) as served:
        for arguments in (["info"], ["decode", "-o", "-"], ["truncate", "-o", "-", "--layers", "1"]):
            result = run(arguments[0], served.url, *arguments[1:], "--allow-partial")
            assert result.exit_code == 8 and not result.stdout
            assert result.stderr.startswith("pccodec: error: http://127.0.0.1")
            assert len(result.stderr.splitlines()) == 1


@pytest.fixture(scope="module")
def sheet() -> np.ndarray:
    """A noisy sheet of 14,400 points."""
    x, y = np.meshgrid(np.arange(120), np.arange(120), indexing="ij")
    z = 30 + np.random.default_rng(2).integers(0, 12, x.shape)
    return np.stack([x.ravel(), y.ravel(), z.ravel()], axis=1)


@pytest.fixture(scope="module", params=[None, 10_000], ids=["without tiles", "tiles"])
def sheet_stream(request: pytest.FixtureRequest, sheet: np.ndarray) -> bytes:
    data = codec.encode(sheet, tile_points=request.param, effort=1)
    assert (container.parse(data).header.tiles is None) == (request.param is None)
    return data


@pytest.mark.parametrize("box", ["10,70,30,30,90,36.5", "-5,0,0.5,8,8,1e9"])
def test_bbox_crops(box: str, sheet_stream: bytes, sheet: np.ndarray, tmp_path: Path) -> None:
    output, corners = tmp_path / "out.npy", np.fromstring(box, sep=",").reshape(2, 3)
    inside = sheet[((sheet >= corners[0]) & (sheet <= corners[1])).all(axis=1)]
    assert 0 < len(inside) < len(sheet)
    with serve(sheet_stream) as served:
        result = run("-v", "decode", served.url, "-o", output, "--bbox", box)
        assert result.exit_code == 0, result.stderr
        assert np.array_equal(np.unique(np.load(output), axis=0), inside)
        # Some of the tiles, and 4,096 bytes first; a stream without tiles is fetched whole.
        whole = container.parse(sheet_stream).header.tiles is None
        assert (fetched(result)[0] == len(sheet_stream)) == whole
        assert whole or fetched(result)[0] < 0.7 * len(sheet_stream)
    # A prefix gives what lies in the box of what it decodes to.
    source, size = tmp_path / "in.pcc", len(sheet_stream) // 2
    source.write_bytes(sheet_stream)
    assert run("decode", source, "-o", output, "--bbox", box, "--max-bytes", size).exit_code == 0
    coarse = codec.decode(sheet_stream[:size])
    expected = coarse[((coarse >= corners[0]) & (coarse <= corners[1])).all(axis=1)]
    assert np.array_equal(np.unique(np.load(output), axis=0), np.unique(expected, axis=0))


@pytest.mark.parametrize("sheet_stream", [10_000], indirect=True)
def test_info_of_a_box(sheet_stream: bytes, tmp_path: Path) -> None:
    source = tmp_path / "in.pcc"
    source.write_bytes(sheet_stream)

    def box(corners: str, *options: object) -> dict[str, int]:
        part: dict[str, int] = json.loads(run("info", source, "--json", "--bbox", corners, *options).stdout)[
            "box"
        ]
        return part

    whole = box("-1000,-1000,-1000,1000,1000,1000")
    assert whole == {"tiles": 32, "all_tiles": 32, "bytes": len(sheet_stream)}
    part, nothing = box("1,1,0,9,9,100"), box("1,1,120,9,9,127")
    assert part["tiles"] == 2 and nothing["tiles"] == 0
    assert 0 < nothing["bytes"] < part["bytes"] < len(sheet_stream)
    assert box("-1000,-1000,-1000,1000,1000,1000", "--max-bytes", 3000)["bytes"] <= 3000
    assert "2 of 32 tiles" in run("info", source, "--bbox", "1,1,0,9,9,100").stdout


@pytest.mark.parametrize("sheet_stream", [10_000], indirect=True)
def test_a_stream_of_tiles_that_is_cut(sheet_stream: bytes, tmp_path: Path) -> None:
    output, size = tmp_path / "out.npy", int(0.7 * len(sheet_stream))
    with serve(sheet_stream, ranges=False, cut_after=size) as served:
        assert run("decode", served.url, "-o", output).exit_code == 8 and not output.exists()
        assert run("decode", served.url, "-o", output, "--allow-partial").exit_code == 0
    assert np.array_equal(np.load(output), codec.decode(sheet_stream[:size]))


def test_bbox_is_in_units_of_the_input(tmp_path: Path) -> None:
    cloud = np.random.default_rng(1).uniform(500_000, 500_010, (300, 3))
    source, stream, output = tmp_path / "in.npy", tmp_path / "in.pcc", tmp_path / "out.npy"
    np.save(source, cloud)
    assert run("encode", source, "-o", stream, "--voxel-size", 0.01).exit_code == 0
    box = "500002,500002,500002,500006,500006,500006"
    assert run("decode", stream, "-o", output, "--bbox", box).exit_code == 0
    expected = ((cloud >= 500_002) & (cloud <= 500_006)).all(axis=1).sum()
    assert abs(len(np.load(output)) - expected) <= 3


@pytest.mark.parametrize(
    ("box", "code", "message"),
    [
        ("900,900,900,901,901,901", 3, "no point lies in the box: all lie within 0 to 127,"),
        ("1,2,3", 2, "is not of six numbers"),
        ("5,0,0,4,9,9", 2, "the first corner must be the lower one"),
        ("nan,0,0,4,9,9", 2, "the first corner must be the lower one"),
        ("0,0,0,4,9,inf", 2, "is no box"),
    ],
)
def test_boxes_that_hold_nothing(box: str, code: int, message: str, stream: bytes, tmp_path: Path) -> None:
    source, output = tmp_path / "in.pcc", tmp_path / "out.ply"
    source.write_bytes(stream)
    result = run("decode", source, "-o", output, "--bbox", box)
    assert result.exit_code == code and message in result.stderr and not output.exists()
    assert len(result.stderr.splitlines()) == 1


def test_the_server_counts_as_the_command_does(stream: bytes) -> None:
    def asked(served: Served) -> int:
        return sum(min(stop, len(stream)) - start for start, stop in served.asked)

    with serve(stream) as served:
        result = run("-v", "truncate", served.url, "-o", "-", "--layers", 99)
        assert result.exit_code == 2
        result = run("-v", "decode", served.url, "-o", "-")
        assert fetched(result)[0] + 4096 == asked(served) and served.sent == asked(served)
