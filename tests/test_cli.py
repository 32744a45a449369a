"""Command line: outputs, standard streams, exit codes, and what small commands import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from pccodec import __version__, codec, container, io
from pccodec.cli import main
from pccodec.errors import DependencyError, ModelError, PccodecError
from pccodec.evaluation.metrics import Reference

ROOT = Path(__file__).parents[1]


def run(*arguments: object, stdin: bytes = b"") -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], input=stdin)


def run_process(
    *arguments: object, stdin: bytes = b"", **environment: str
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "pccodec", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        cwd=ROOT,
        env={**os.environ, **environment},
        timeout=120,
    )


def make_stream() -> bytes:
    """A stream of the container alone: the payload is noise."""
    header = container.Header(4, (600, 150, 30, 6), (2, 0, 1), b"modelid8")
    payloads = [bytes([n]) * 3 * (n + 1) for n in range(len(header.layers))]
    return container.pack(header, payloads, {0: 1, 1: 2, 2: 3, 3: 4})


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    """Integer points of a wavy sheet, distinct, in rows sorted by coordinate."""
    x, y = np.meshgrid(np.arange(40), np.arange(40), indexing="ij")
    z = np.rint(20 + 6 * np.sin(x / 7) * np.cos(y / 9)).astype(np.int64)
    return np.stack([x.ravel(), y.ravel(), z.ravel()], axis=1)


@pytest.fixture(scope="module")
def cloud(points: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cloud") / "sheet.ply"
    io.write(path, points)
    return path


@pytest.fixture(scope="module")
def stream(cloud: Path) -> Path:
    path = cloud.with_suffix(".pcc")
    result = run("encode", cloud, "-o", path)
    assert result.exit_code == 0, result.output
    return path


def rows(points: np.ndarray) -> np.ndarray:
    return np.unique(points, axis=0)


def test_version() -> None:
    assert __version__ in run("--version").stdout


def test_help_names_all_commands_and_imports_none() -> None:
    script = (
        "import sys; from pccodec.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'numpy', 'torch', 'scipy', 'matplotlib', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    for name in ("encode", "decode", "truncate", "info", "eval", "train"):
        assert f"\n  {name} " in result.stdout


@pytest.mark.parametrize("command", ["encode", "decode", "truncate", "info", "eval", "train"])
def test_every_command_has_help(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0, result.output
    assert "Usage: pccodec" in result.stdout


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_info_imports_nothing_heavy(options: list[str], tmp_path: Path) -> None:
    path = tmp_path / "a.pcc"
    path.write_bytes(make_stream())
    script = (
        "import sys; from pccodec.cli import main\n"
        f"try: main(['info', {str(path)!r}, *{options!r}])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'numpy', 'torch', 'scipy', 'matplotlib', 'open3d'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_info_json(tmp_path: Path) -> None:
    data = make_stream()
    facts = json.loads(run("info", "-", "--json", stdin=data[:-10] + b"").stdout)
    assert facts["points"] == 600 and facts["counts"] == {"1": 600, "2": 150, "4": 30, "8": 6}
    assert facts["model_id"] == b"modelid8".hex()
    assert facts["bytes"] == len(data) and facts["bytes_here"] == len(data) - 10
    assert not facts["is_complete"]
    assert [layer["name"] for layer in facts["layers"]] == ["G3", "R3.1", "R3.2", "G2", "G1", "R1.1", "G0"]
    assert [layer["rank"] for layer in facts["layers"]] == [None, 1, 2, None, None, 1, None]
    last = facts["layers"][-1]
    assert last["cumulative_bytes"] == len(data) and last["bytes_here"] == last["bytes"] - 10
    assert facts["bpp"] == last["cumulative_bpp"] == 8 * len(data) / 600


def test_info_table_shows_what_is_missing() -> None:
    data = make_stream()
    text = run("info", "-", stdin=data[:-30] + b"").stdout
    assert "600 in 4 bits" in text and "latent rank" in text and "none" in text and "cut, " in text
    text = run("info", "-", stdin=data + b"xx").stdout
    assert "complete" in text and "2 bytes behind its end" in text


def test_truncate_keeps_the_first_bytes(tmp_path: Path) -> None:
    data, path = make_stream(), tmp_path / "cut.pcc"
    assert run("truncate", "-", "-o", path, "--bytes", 60, stdin=data).exit_code == 0
    assert path.read_bytes() == data[:60]
    assert run("truncate", "-", "-o", path, "--layers", 2, stdin=data).exit_code == 0
    assert path.read_bytes() == data[: container.parse(data).layers[2].offset]
    assert run("truncate", "-", "-o", path, "--bpp", "1", stdin=data).exit_code == 0
    assert path.read_bytes() == data[: 600 // 8]


def test_truncate_to_standard_output() -> None:
    data = make_stream()
    result = run("truncate", "-", "-o", "-", "--bytes", 50, stdin=data)
    assert result.stdout_bytes == data[:50]
    assert "50 of" in result.stderr


def test_quiet_says_nothing() -> None:
    result = run("--quiet", "truncate", "-", "-o", "-", "--bytes", 50, stdin=make_stream())
    assert result.exit_code == 0 and not result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["truncate", "-", "-o", "x.pcc"], "give one of"),
        (["truncate", "-", "-o", "x.pcc", "--bytes", "3"], "do not hold the header"),
        (["truncate", "-", "-o", "x.pcc", "--layers", "99"], "has 7 layers"),
        (["truncate", "-", "-o", "x.pcc", "--bpp", "inf"], "no rate"),
        (["truncate", "-"], "Missing option"),
        (["nonsense"], "No such command"),
        (["encode", "a.ply", "-o", "b", "--layers", "1", "--target-bpp", "1"], "give only one"),
        (["encode", "a.ply", "-o", "b", "--layers", "1", "--target-psnr", "60"], "give only one"),
        (["encode", "a.ply", "-o", "b", "--target-psnr", "nan"], "no quality"),
        (["encode", "a.ply", "-o", "b", "--ranks", "1,2"], "neither auto nor"),
        (["encode", "a.ply", "-o", "b", "--ranks", "1,2,-1"], "negative"),
        (["decode", "-", "-o", "b.ply", "--layers", "1", "--max-bytes", "100"], "give only one"),
        (["info", "-", "--layers", "1", "--max-bytes", "100"], "give only one"),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str], message: str) -> None:
    result = run(*arguments, stdin=make_stream())
    assert result.exit_code == 2 and not result.stdout
    assert message in result.stderr and result.stderr.startswith("pccodec: error: ")
    assert len(result.stderr.splitlines()) == 1
    assert not Path("x.pcc").exists()


@pytest.mark.parametrize(
    ("arguments", "stdin", "code"),
    [
        (["info", "no/such/file"], b"", 3),
        (["encode", "no/such/file.ply", "-o", "-"], b"", 3),
        (["encode", "-", "-o", "-", "--format", "ply"], b"ply but not really", 3),
        (["info", "-"], b"not a stream at all", 4),
        (["info", "-"], make_stream()[:20], 4),
        (["decode", "-", "-o", "-"], b"", 4),
        (["truncate", "-", "-o", "no/such/folder/x", "--layers", "1"], make_stream(), 3),
    ],
)
def test_exit_codes(arguments: list[str], stdin: bytes, code: int) -> None:
    result = run(*arguments, stdin=stdin)
    assert result.exit_code == code and not result.stdout
    assert result.stderr.startswith("pccodec: error: ") and len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (ModelError("no model"), 6, "no model"),
        (DependencyError("no laspy"), 7, "no laspy"),
        (MemoryError(), 1, "not enough memory"),
        (RuntimeError("two\nlines"), 1, "unexpected RuntimeError: two lines (PCCODEC_DEBUG=1 shows where)"),
    ],
)
def test_errors_of_commands(
    error: BaseException, code: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise error

    monkeypatch.delenv("PCCODEC_DEBUG", raising=False)
    monkeypatch.setattr(container, "parse_source", fail)
    result = run("info", "-", stdin=make_stream())
    assert result.exit_code == code
    assert result.stderr.split("pccodec: error: ")[1] == message + "\n"


def test_tracebacks_on_demand() -> None:
    assert b"Traceback" not in run_process("info", "-", stdin=b"x", PCCODEC_DEBUG="").stderr
    assert b"Traceback" in run_process("info", "-", stdin=b"x", PCCODEC_DEBUG="1").stderr
    assert b"Traceback" in run_process("-vv", "info", "-", stdin=b"x", PCCODEC_DEBUG="").stderr


def test_encode_and_decode_are_lossless(stream: Path, points: np.ndarray, tmp_path: Path) -> None:
    output = tmp_path / "back.ply"
    result = run("decode", stream, "-o", output)
    assert result.exit_code == 0, result.output
    decoded = io.read(output)
    assert decoded.is_integer and np.array_equal(rows(decoded.points), points)
    assert f"{len(points):,} points" in result.stderr and not result.stdout


def test_encode_says_how_many_points_merged(points: np.ndarray, tmp_path: Path) -> None:
    io.write(tmp_path / "twice.npy", np.concatenate([points, points[:7]]))
    result = run("encode", tmp_path / "twice.npy", "-o", tmp_path / "twice.pcc")
    assert "7 duplicates merged" in result.stderr


def test_encode_targets(cloud: Path, stream: Path, points: np.ndarray, tmp_path: Path) -> None:
    whole, path = stream.read_bytes(), tmp_path / "part.pcc"
    assert run("encode", cloud, "-o", path, "--target-bytes", 100).exit_code == 0
    assert path.read_bytes() == whole[:100]
    assert run("encode", cloud, "-o", path, "--target-bpp", 0.75).exit_code == 0
    assert path.read_bytes() == whole[: int(0.75 * len(points) / 8)]
    assert run("encode", cloud, "-o", path, "--layers", 3).exit_code == 0
    assert path.read_bytes() == container.truncate(whole, layers=3)


@pytest.mark.parametrize("bpp", [0.43, 0.75, 0.93])
def test_encode_hits_a_rate_from_below(
    bpp: float, cloud: Path, stream: Path, points: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "rate.pcc"
    assert 8 * stream.stat().st_size / len(points) > bpp
    assert run("encode", cloud, "-o", path, "--target-bpp", bpp).exit_code == 0
    assert 0.98 * bpp <= 8 * path.stat().st_size / len(points) <= bpp


def test_encode_hits_a_quality(cloud: Path, stream: Path, points: np.ndarray, tmp_path: Path) -> None:
    path, whole = tmp_path / "quality.pcc", stream.read_bytes()
    reference = Reference(points)

    def quality(size: int) -> float:
        return reference.compare(codec.decode(whole[:size])).d1_psnr

    result = run("encode", cloud, "-o", path, "--target-psnr", 70)
    assert result.exit_code == 0, result.output
    size = path.stat().st_size
    assert path.read_bytes() == whole[:size]
    assert quality(size) >= 70 and (quality(size) <= 70.1 or quality(size - 1) < 70)
    assert f"{quality(size):.2f} dB D1 PSNR" in result.stderr


def test_encode_to_a_quality_beyond_all_cuts_is_whole(cloud: Path, stream: Path, tmp_path: Path) -> None:
    path = tmp_path / "all.pcc"
    result = run("encode", cloud, "-o", path, "--target-psnr", "inf")
    assert result.exit_code == 0 and "lossless" in result.stderr
    assert path.read_bytes() == stream.read_bytes()


def test_encode_says_that_a_quality_is_out_of_reach(tmp_path: Path) -> None:
    io.write(tmp_path / "float.npy", np.random.default_rng(1).uniform(0, 1, (300, 3)))
    arguments = ("encode", tmp_path / "float.npy", "-o", tmp_path / "float.pcc", "--voxel-size", 0.05)
    result = run(*arguments, "--target-psnr", 200)
    assert result.exit_code == 0
    assert "200 dB cannot be reached" in result.stderr and "dB D1 PSNR" in result.stderr


def test_encode_without_ranks(cloud: Path, tmp_path: Path) -> None:
    path = tmp_path / "geometry.pcc"
    assert run("encode", cloud, "-o", path, "--ranks", "0,0,0").exit_code == 0
    assert all(layer.spec.kind == "G" for layer in container.parse(path.read_bytes()).layers)


def test_decode_of_cuts(stream: Path, tmp_path: Path) -> None:
    whole = container.parse(stream.read_bytes())
    sizes = []
    for layers in range(0, len(whole.layers) + 1, 2):
        output = tmp_path / f"{layers}.ply"
        assert run("decode", stream, "-o", output, "--layers", layers).exit_code == 0
        sizes.append(len(io.read(output)))
    assert sizes[-1] <= whole.header.counts[0] and sizes[0] >= 1
    by_option = run("decode", stream, "-o", "-", "--max-bytes", 120, "--format", "npy")
    by_cut = run("decode", "-", "-o", "-", "--format", "npy", stdin=stream.read_bytes()[:120])
    assert by_option.exit_code == 0 and by_option.stdout_bytes == by_cut.stdout_bytes


def test_pipe_through_standard_streams(cloud: Path, points: np.ndarray) -> None:
    encoded = run_process("encode", "-", "-o", "-", stdin=cloud.read_bytes())
    assert encoded.returncode == 0, encoded.stderr
    decoded = run_process("decode", "-", "-o", "-", "--format", "xyz", stdin=encoded.stdout)
    assert decoded.returncode == 0, decoded.stderr
    assert np.array_equal(rows(np.loadtxt(decoded.stdout.splitlines())), points)


def test_float_cloud_comes_back_within_half_a_voxel(tmp_path: Path) -> None:
    original = np.random.default_rng(0).uniform(0, 1, (300, 3)) + [431_000, 4_580_000, 120]
    source, stream = tmp_path / "utm.npy", tmp_path / "utm.pcc"
    io.write(source, original)
    assert run("encode", source, "-o", stream, "--voxel-size", 0.01).exit_code == 0
    assert run("decode", stream, "-o", tmp_path / "back.npy").exit_code == 0
    decoded = np.load(tmp_path / "back.npy")
    nearest = np.abs(original[:, None] - decoded[None]).max(axis=2).min(axis=1)
    assert nearest.max() <= 0.005 * 1.01


def test_damage_warns_or_is_refused(stream: Path, tmp_path: Path) -> None:
    data = bytearray(stream.read_bytes())
    last = container.parse(data).layers[-1]
    middle = last.offset + last.length // 2
    data[middle : middle + 8] = bytes(255 - byte for byte in data[middle : middle + 8])
    output = tmp_path / "damaged.ply"
    result = run("decode", "-", "-o", output, stdin=bytes(data))
    assert result.exit_code == 0 and "warning" in result.stderr and output.exists()
    output.unlink()
    result = run("decode", "-", "-o", output, "--strict", stdin=bytes(data))
    assert result.exit_code == 5 and not output.exists()
    assert len(result.stderr.splitlines()) == 1


def test_trailing_bytes_warn(stream: Path, tmp_path: Path) -> None:
    result = run("decode", "-", "-o", tmp_path / "a.ply", stdin=stream.read_bytes() + b"xyz")
    assert result.exit_code == 0 and "3 bytes behind the end" in result.stderr


def test_errors_have_distinct_exit_codes() -> None:
    def children(kind: type[PccodecError]) -> list[type[PccodecError]]:
        return [kind, *(leaf for child in kind.__subclasses__() for leaf in children(child))]

    # A finer kind may keep the code of its parent.
    codes = [kind.exit_code for kind in children(PccodecError) if "exit_code" in vars(kind)]
    assert len(set(codes)) == len(codes) and 2 not in codes and 0 not in codes
