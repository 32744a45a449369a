"""Clouds in chunks: the same points and errors as as a whole, read twice, written piece by piece."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pccodec.errors import InputError
from pccodec.io import CloudSpec, format_names, open_chunks, open_writer, read, write

ROOT = Path(__file__).resolve().parents[1]

FLOATS = np.array([[0.1, -2.5, 3e-7], [654321.123, 5412345.678, 99.5], [1, 2, 3]])
INTEGERS = np.array([[0, 1, 2], [1023, 0, 5], [-7, 3, 3], [0, 1, 2]])


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a few rows in all readers."""
    for name in ("ply._LINES", "text._LINES", "table._ROWS", "las._BLOCK"):
        monkeypatch.setattr(f"pccodec.io.{name}", 7)
    monkeypatch.setattr("pccodec.io.cloud.CHUNK", 5)


def cloud(n: int) -> np.ndarray:
    return np.round(np.random.default_rng(n).normal(size=(n, 3)) * 100, 2)


@pytest.mark.usefixtures("small")
class TestReading:
    @pytest.mark.parametrize("format", format_names())
    def test_same_as_a_whole_and_again(self, format: str, tmp_path: Path) -> None:
        for n in (1, 7, 23):
            path = tmp_path / f"{n}.{format}"
            write(path, cloud(n), format)
            chunks = open_chunks(path, format)
            whole = read(path, format).points
            for _ in range(2):
                parts = list(chunks)
                assert max(map(len, parts)) <= 5
                np.testing.assert_array_equal(np.concatenate(parts), whole)
            assert chunks.survey.points == n
            assert chunks.survey.dtype == whole.dtype
            np.testing.assert_array_equal(chunks.survey.high, whole.max(axis=0))

    def test_kinds_of_arrays(self) -> None:
        rng = np.random.default_rng(0)
        structured = np.zeros((4, 6), [("i", "u1"), ("z", ">f4"), ("y", "<f8"), ("x", "i2")])
        for name in structured.dtype.names or ():
            structured[name] = rng.integers(0, 9, (4, 6))
        wide = rng.random((20, 5))
        arrays: list[np.ndarray] = [wide, np.asfortranarray(wide), wide.astype(">f4"), structured]
        for array in arrays:
            stream = io.BytesIO()
            np.save(stream, array)
            stream.seek(0)
            expected = (
                np.stack([array[axis].ravel() for axis in "xyz"], axis=1)
                if array.dtype.names
                else array[:, :3]
            )
            np.testing.assert_array_equal(np.concatenate(list(open_chunks(stream, "npy"))), expected)

    @pytest.mark.parametrize(
        ("name", "data", "message"),
        [
            ("a.ply", b"ply\nformat ascii 1.0\nelement vertex 9\nproperty float x\nproperty float y\n"
                      b"property float z\nend_header\n" + b"1 2 3\n" * 8, "a.ply: the file ends early: 8 of"),
            ("a.ply", b"ply\nformat nonsense\n", "a.ply: "),
            ("a.xyz", b"1 2 3\n" * 20 + b"1 2 x\n", "a.xyz: not a readable xyz"),
            ("a.xyz", b"1 2 3\n" * 20 + b"1 2 nan\n", "a.xyz: 1 of 21 points have NaN"),
            ("a.xyz", b"\n", "a.xyz: the file is empty"),
            ("a.npy", b"\x93NUMPY\1", "a.npy: not a readable npy"),
        ],
    )  # fmt: skip
    def test_errors_name_the_file_once(self, name: str, data: bytes, message: str, tmp_path: Path) -> None:
        path = tmp_path / name
        path.write_bytes(data)
        errors = []
        for whole in (False, True):
            with pytest.raises(InputError) as caught:
                _ = read(path) if whole else open_chunks(path).survey
            errors.append(str(caught.value))
        assert message in errors[0]
        assert errors[0].count(name) == 1
        assert errors[0] == errors[1]

    def test_missing_unknown_and_empty(self, tmp_path: Path) -> None:
        (tmp_path / "cloud.doc").write_bytes(b"text")
        (tmp_path / "empty.ply").touch()
        for path, message in [
            (tmp_path / "none.ply", "cannot read .*No such file"),
            (tmp_path / "cloud.doc", "format not recognized"),
            (tmp_path / "empty.ply", "the file is empty"),
        ]:
            with pytest.raises(InputError, match=message):
                open_chunks(path)

    def test_a_file_that_goes_away_between_passes(self, tmp_path: Path) -> None:
        path = tmp_path / "a.npy"
        write(path, FLOATS)
        chunks = open_chunks(path)
        assert chunks.survey.points == 3
        path.unlink()
        with pytest.raises(InputError, match="cannot read"):
            list(chunks)

    def test_skipped_attributes_are_named_once(self, caplog: pytest.LogCaptureFixture) -> None:
        chunks = open_chunks(io.BytesIO(b"x,y,z,red\n1,2,3,4\n"), "csv")
        assert chunks.survey.points == len(next(iter(chunks))) == 1
        assert caplog.text.count("attributes skipped: red") == 1


def test_standard_input_is_read_twice() -> None:
    code = (
        "import sys; from pccodec.io import open_chunks; c = open_chunks('-', 'xyz');"
        "print(c.survey.points, c.survey.is_integer, sum(len(a) for a in c))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=b"1 2 3\n4 5 6.5\n", capture_output=True, check=True, cwd=ROOT
    )
    assert done.stdout.split() == [b"2", b"False", b"2"]


def box(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return points.min(axis=0), points.max(axis=0)


class TestWriting:
    @settings(max_examples=40, deadline=None)
    @given(
        format=st.sampled_from(format_names()),
        cuts=st.lists(st.integers(0, 40), max_size=5),
        is_integer=st.booleans(),
        is_counted=st.booleans(),
    )
    def test_chunks_give_the_file_of_the_whole(
        self, format: str, cuts: list[int], is_integer: bool, is_counted: bool
    ) -> None:
        points = cloud(40) if not is_integer else np.rint(cloud(40)).astype(np.int64)
        spec = CloudSpec.within(*box(points), is_integer, 0.0, len(points) if is_counted else None)
        stream, whole = io.BytesIO(), io.BytesIO()
        with open_writer(stream, spec, format) as writer:
            for part in np.split(points, sorted(cuts)):
                writer.write(part)
        assert writer.count == 40
        write(whole, points, format)
        if format in ("ply", "ply-ascii", "ply-be", "las", "laz") and not is_counted:
            # Room for the count, or a version that can count further.
            stream.seek(0)
            result = read(stream, format).points
            np.testing.assert_allclose(result, points, rtol=0, atol=6e-10 if format[0] == "l" else 0)
        else:
            stream.seek(0)
            whole.seek(0)
            np.testing.assert_array_equal(read(stream, format).points, read(whole, format).points)
            if format not in ("npz", "las", "laz"):
                assert stream.getvalue() == whole.getvalue()

    def test_a_count_that_comes_last(self, tmp_path: Path) -> None:
        plyfile = pytest.importorskip("plyfile")
        spec = CloudSpec.within(*box(FLOATS), False, 0.0)
        for format in ("ply", "ply-be", "ply-ascii", "npy"):
            path = tmp_path / f"{format}.{format[:3]}"
            with open_writer(path, spec, format) as writer:
                for _ in range(400):
                    writer.write(FLOATS)
            assert len(read(path)) == 1200
            if format == "npy":
                np.testing.assert_array_equal(np.load(path), np.tile(FLOATS, (400, 1)))
            else:
                assert plyfile.PlyData.read(str(path))["vertex"].count == 1200

    def test_what_a_box_tells_of_float32(self) -> None:
        low, high = np.zeros(3), np.array([1.0, 1000, 2])
        for is_integer, tolerance, top, expected in [
            (True, 0, 2**24, np.float32),
            (True, 0, 2**24 + 1, np.float64),
            (False, 0, 1, np.float64),
            (False, 1e-4, 1000, np.float32),
            (False, 1e-5, 1000, np.float64),
            (False, 1e300, 1e300, np.float64),
        ]:
            spec = CloudSpec.within(low, high * top / 1000, is_integer, tolerance)
            assert spec.storage == expected, (is_integer, tolerance, top)

    def test_failure_leaves_nothing(self, tmp_path: Path) -> None:
        spec = CloudSpec.within(*box(FLOATS), False, 0.0, total=5)
        too_few = pytest.raises(ValueError, match="3 points written where 5")
        with too_few, open_writer(tmp_path / "a.ply", spec) as writer:
            writer.write(FLOATS)
        with pytest.raises(InputError, match="no points"), open_writer(tmp_path / "a.laz", spec):
            pass
        with pytest.raises(KeyboardInterrupt), open_writer(tmp_path / "a.npy", spec) as writer:
            writer.write(FLOATS)
            raise KeyboardInterrupt
        assert list(tmp_path.iterdir()) == []

    def test_devices_and_pipes(self) -> None:
        spec = CloudSpec.within(*box(INTEGERS), True, 0.0)
        with open_writer(os.devnull, spec, "ply") as writer:
            writer.write(INTEGERS)
        code = (
            "import sys, numpy as np; from pccodec.io import CloudSpec, open_writer\n"
            "points = np.eye(3); spec = CloudSpec.within(points.min(0), points.max(0), True, 0.0)\n"
            "with open_writer('-', spec, sys.argv[1]) as writer: writer.write(points); writer.write(points)"
        )
        for format in ("ply", "npy", "laz", "xyz"):
            done = subprocess.run(
                [sys.executable, "-c", code, format], capture_output=True, check=True, cwd=ROOT
            )
            np.testing.assert_array_equal(
                read(io.BytesIO(done.stdout), format).points, np.tile(np.eye(3), (2, 1))
            )
