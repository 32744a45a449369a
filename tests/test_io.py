"""Reading and writing clouds: every format, every way a file can be wrong, atomic files."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pccodec.errors import DependencyError, InputError
from pccodec.io import PointCloud, atomic_write, format_names, lzf, read, write

INTEGERS = np.array([[0, 1, 2], [1023, 0, 5], [-7, 3, 3], [0, 1, 2]], np.int64)
FLOATS = np.array([[0.1, -2.5, 3e-7], [654321.123, 5412345.678, 99.5]])

# Those without rounding; LAS is tested by itself.
EXACT_FORMATS = [name for name in format_names() if name not in ("las", "laz")]


def round_trip(points: np.ndarray, format: str, tolerance: float = 0.0) -> np.ndarray:
    stream = io.BytesIO()
    write(stream, points, format, tolerance=tolerance)
    stream.seek(0)
    return read(stream, format).points


def ply(header: str, body: bytes) -> io.BytesIO:
    return io.BytesIO(f"ply\n{header}\nend_header\n".encode() + body)


class TestRoundTrip:
    @pytest.mark.parametrize("format", EXACT_FORMATS)
    @pytest.mark.parametrize("points", [INTEGERS, FLOATS, INTEGERS[:1]], ids=["integers", "floats", "single"])
    def test_exact(self, format: str, points: np.ndarray) -> None:
        result = round_trip(points, format)
        assert result.dtype == points.dtype
        np.testing.assert_array_equal(result, points)

    @pytest.mark.parametrize("format", ["las", "laz"])
    def test_las(self, format: str) -> None:
        pytest.importorskip("laspy")
        pytest.importorskip("lazrs")
        np.testing.assert_array_equal(round_trip(INTEGERS, format), INTEGERS)
        np.testing.assert_allclose(round_trip(FLOATS, format), FLOATS, rtol=0, atol=5.1e-3)
        np.testing.assert_allclose(round_trip(FLOATS[:1], format), FLOATS[:1], rtol=0, atol=5.1e-10)

    @pytest.mark.parametrize("suffix", ["ply", "pcd", "npy", "npz", "xyz", "txt", "csv"])
    def test_format_by_suffix(self, tmp_path: Path, suffix: str) -> None:
        path = tmp_path / f"cloud.{suffix}"
        write(path, INTEGERS)
        np.testing.assert_array_equal(read(str(path)).points, INTEGERS)

    @settings(max_examples=40, deadline=None)
    @given(
        points=hnp.arrays(
            st.sampled_from([np.float64, np.float32, np.int32, np.uint16]),
            st.tuples(st.integers(1, 20), st.just(3)),
            elements=None,
        ).filter(lambda array: bool(np.isfinite(array).all())),
        format=st.sampled_from(EXACT_FORMATS),
    )
    def test_any_points(self, points: np.ndarray, format: str) -> None:
        result = round_trip(points, format)
        np.testing.assert_array_equal(result, points.astype(np.float64))

    @given(
        points=hnp.arrays(np.float64, (5, 3), elements=st.floats(-1e7, 1e7)),
        tolerance=st.sampled_from([1e-6, 1e-3, 0.5, 20.0]),
        format=st.sampled_from(["ply", "ply-ascii", "pcd", "xyz", "csv"]),
    )
    def test_tolerance_is_kept(self, points: np.ndarray, tolerance: float, format: str) -> None:
        result = round_trip(points, format, tolerance)
        # Half an ulp more: a decimal at the very edge of the tolerance.
        assert np.abs(result - points).max() <= tolerance * (1 + 1e-9) + np.spacing(1e7)

    def test_ply_uses_float32_only_where_it_suffices(self) -> None:
        for points, tolerance, kind in [
            (INTEGERS, 0.0, b"float"),
            (FLOATS, 0.0, b"double"),
            (FLOATS, 1.0, b"float"),
            (FLOATS, 0.001, b"double"),  # float32 is off by 0.2 at UTM northings
            (np.array([[2**24 + 1, 0, 0]]), 0.0, b"double"),
        ]:
            stream = io.BytesIO()
            write(stream, points, "ply", tolerance=tolerance)
            assert b"property %s x" % kind in stream.getvalue()

    def test_binary_ply_agrees_with_another_implementation(self, tmp_path: Path) -> None:
        plyfile = pytest.importorskip("plyfile")
        for format in ("ply", "ply-be", "ply-ascii"):
            path = tmp_path / f"{format}.ply"
            write(path, FLOATS, format)
            vertex = plyfile.PlyData.read(str(path))["vertex"]
            np.testing.assert_array_equal(np.stack([vertex[axis] for axis in "xyz"], axis=1), FLOATS)


class TestPly:
    @pytest.mark.parametrize("order", ["little", "big"])
    @pytest.mark.parametrize(
        ("name", "code"),
        [("char", "b"), ("uchar", "B"), ("short", "h"), ("uint16", "H"), ("int", "i"), ("uint32", "I"),
         ("float", "f"), ("float64", "d"), ("int64", "q")],
    )  # fmt: skip
    def test_numeric_types(self, order: str, name: str, code: str) -> None:
        lines = "".join(f"\nproperty {name} {axis}" for axis in "xyz")
        body = struct.pack(f"{'<' if order == 'little' else '>'}6{code}", 1, 2, 3, 4, 5, 100)
        cloud = read(ply(f"format binary_{order}_endian 1.0\nelement vertex 2{lines}", body))
        assert cloud.is_integer
        np.testing.assert_array_equal(cloud.points, [[1, 2, 3], [4, 5, 100]])

    def test_axes_in_any_order_between_other_properties(self, caplog: pytest.LogCaptureFixture) -> None:
        header = (
            "format binary_little_endian 1.0\ncomment made by hand\nelement vertex 1\nproperty uchar red\n"
            "property double z\nproperty float nx\nproperty int x\nproperty short y\n"
            "element face 9\nproperty list uchar int vertex_indices"
        )
        cloud = read(ply(header, struct.pack("<Bdfih", 255, 3.5, 0.1, 1, 2)))
        np.testing.assert_array_equal(cloud.points, [[1, 2, 3.5]])
        assert cloud.skipped == ("red", "nx", "element face")
        assert "attributes skipped: red, nx, element face" in caplog.text

    def test_lists_before_the_coordinates(self) -> None:
        header = (
            "format {} 1.0\nelement camera 2\nproperty list uchar float view\nelement vertex 2\n"
            "property float x\nproperty list ushort short ids\nproperty float y\nproperty float z"
        )
        binary = struct.pack("<BffBf", 2, 0, 0, 1, 0) + struct.pack("<fHhhff", 1, 2, 8, 9, 2, 3)
        binary += struct.pack("<fHff", 4, 0, 5, 6)
        text = b"2 0 0\n1 0\n1 2 8 9 2 3\n\n4 0 5 6\n"
        for encoding, body in [("binary_little_endian", binary), ("ascii", text)]:
            cloud = read(ply(header.format(encoding), body))
            np.testing.assert_array_equal(cloud.points, [[1, 2, 3], [4, 5, 6]])

    def test_ascii_with_windows_lines_and_colors(self) -> None:
        data = b"ply\r\nformat ascii 1.0\r\nelement vertex 2\r\n"
        data += b"".join(b"property float %c\r\n" % axis for axis in b"xyz")
        data += b"property uchar red\r\nend_header\r\n1 2 3 255\r\n4.5 5 6 0\r\n"
        np.testing.assert_array_equal(read(io.BytesIO(data)).points, [[1, 2, 3], [4.5, 5, 6]])

    XYZ = "element vertex 3\nproperty float x\nproperty float y\nproperty float z"

    @pytest.mark.parametrize(
        ("header", "body", "message"),
        [
            (f"format binary_little_endian 1.0\n{XYZ}", b"\0" * 35, "ends early: 2 of 3"),
            (f"format ascii 1.0\n{XYZ}", b"1 2 3\n", "ends early: 1 of 3"),
            (f"format ascii 1.0\n{XYZ}", b"", "ends early: 0 of 3"),
            (f"format ascii 1.0\n{XYZ}", b"1 2\n1 2\n1 2\n", "not a readable ply"),
            (f"format ascii 1.0\n{XYZ}", b"1 2 a\n" * 3, "not a readable ply"),
            (f"format ebcdic 1.0\n{XYZ}", b"", "unknown PLY encoding"),
            (f"format binary_little_endian 1.0\n{XYZ.replace('3', '9' * 15)}", b"\0" * 36, "ends early"),
            (f"format binary_little_endian 1.0\n{XYZ.replace('3', '0')}", b"", "no points"),
            ("format ascii 1.0\nelement face 0", b"", "no vertex element"),
            ("format ascii 1.0\nelement vertex 1\nproperty float x", b"1", "no properties x, y, z"),
            ("format ascii 1.0\nelement vertex 1\nproperty quad x", b"1", "unknown line"),
            ("format ascii 1.0\nelement vertex -1\nproperty float x", b"1", "unknown line"),
            (f"format binary_little_endian 1.0\nelement a 2\nproperty list int int b\n{XYZ}",
             b"\xff\xff\xff\x7f", "ends early: 0 of 2"),
            (f"format binary_little_endian 1.0\nelement a 1\nproperty list float int b\n{XYZ}", b"",
             "no integer"),
        ],
    )  # fmt: skip
    def test_malformed(self, header: str, body: bytes, message: str) -> None:
        with pytest.raises(InputError, match=message) as caught:
            read(ply(header, body))
        assert "\n" not in str(caught.value)

    def test_header_without_end(self) -> None:
        with pytest.raises(InputError, match="has no end"):
            read(io.BytesIO(b"ply\nformat ascii 1.0\n"))


def compress_literally(data: bytes) -> bytes:
    """The simplest LZF encoder: literal runs only."""
    pieces = [data[i : i + 32] for i in range(0, len(data), 32)]
    return b"".join(bytes([len(piece) - 1]) + piece for piece in pieces)


class TestPcd:
    def header(self, encoding: str, points: int = 2) -> bytes:
        return (
            "# .PCD v0.7\nVERSION 0.7\nFIELDS rgb x y z _\nSIZE 4 4 4 4 1\nTYPE U F F F U\nCOUNT 1 1 1 1 3\n"
            f"WIDTH {points}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {points}\nDATA {encoding}\n"
        ).encode()

    def test_encodings(self) -> None:
        rows = [(7, 1.5, 2.0, 3.0), (8, 4.0, 5.0, 6.0)]
        text = "".join(f"{c} {x} {y} {z} 0 0 0\n" for c, x, y, z in rows).encode()
        binary = b"".join(struct.pack("<Ifff3x", *row) for row in rows)
        columns = struct.pack("<2I2f2f2f6x", 7, 8, 1.5, 4, 2, 5, 3, 6)
        packed = compress_literally(columns)
        compressed = struct.pack("<II", len(packed), len(columns)) + packed
        for encoding, body in [("ascii", text), ("binary", binary), ("binary_compressed", compressed)]:
            cloud = read(io.BytesIO(self.header(encoding) + body))
            np.testing.assert_array_equal(cloud.points, [[1.5, 2, 3], [4, 5, 6]])
            assert cloud.skipped == ("rgb",)
            with pytest.raises(InputError):
                read(io.BytesIO(self.header(encoding) + body[: len(body) // 2]))

    def test_points_not_measured_are_left_out(self, caplog: pytest.LogCaptureFixture) -> None:
        body = b"0 1 2 3 0 0 0\n0 nan nan nan 0 0 0\n"
        cloud = read(io.BytesIO(self.header("ascii") + body))
        np.testing.assert_array_equal(cloud.points, [[1, 2, 3]])
        assert "1 of 2 points are NaN" in caplog.text
        with pytest.raises(InputError, match="infinite"):
            read(io.BytesIO(self.header("ascii") + body.replace(b"nan", b"inf")))

    def test_header_errors(self) -> None:
        for data in (b"# .PCD\nFIELDS x y z\n", self.header("zip"), self.header("binary", 10**12)):
            with pytest.raises(InputError):
                read(io.BytesIO(data), "pcd")


class TestLzf:
    def test_copies(self) -> None:
        # "abc", then 5 bytes from 3 back (overlapping), then a long run: 2 + 7 + 10 bytes from 1 back.
        data = bytes([2]) + b"abc" + bytes([3 << 5, 2]) + bytes([7 << 5, 10, 0])
        assert lzf.decompress(data, 3 + 5 + 19) == b"abc" + b"abcab" + b"b" * 19

    @given(st.binary(max_size=300))
    def test_literals(self, data: bytes) -> None:
        assert lzf.decompress(compress_literally(data), len(data)) == data

    @given(st.binary(max_size=60), st.integers(0, 100))
    def test_damage_is_an_error_or_gives_the_size(self, data: bytes, size: int) -> None:
        try:
            assert len(lzf.decompress(data, size)) == size
        except InputError as error:
            assert "compressed data" in str(error)


class TestText:
    @pytest.mark.parametrize(
        "content",
        [
            "1 2 3\n4 5.5 6\n",
            "\ufeff1\t2\t3\n4\t5.5\t6",
            "# a comment\n\n2\n1 2 3 0.5\n4 5.5 6 0.25\n",
            "//X Y Z R\n1 2 3 9\n4 5.5 6 9\n",
            "x,y,z\r\n1,2,3\r\n4,5.5,6\r\n",
            '"id";"Z";"Y";"X"\na;3;2;1\nb;6;5.5;4\n',
            "east,north,height\n1,2,3\n4,5.5,6\n",
        ],
    )
    def test_dialects(self, content: str) -> None:
        cloud = read(io.BytesIO(content.encode()), "xyz")
        np.testing.assert_array_equal(cloud.points, [[1, 2, 3], [4, 5.5, 6]])

    def test_skipped_columns_are_named(self) -> None:
        assert read(io.BytesIO(b"x,y,z,red\n1,2,3,4\n"), "csv").skipped == ("red",)
        assert read(io.BytesIO(b"1 2 3 4 5\n"), "xyz").skipped == ("2 further columns",)

    @pytest.mark.parametrize(
        "content", [b"1 2\n3 4\n", b"a\nb\nc\n", b"1 2 3\n4 five 6\n", b"  \n", b"\xff\xfe\x00"]
    )
    def test_malformed(self, content: bytes) -> None:
        with pytest.raises(InputError):
            read(io.BytesIO(content), "xyz")


class TestArrays:
    def test_usual_names_and_further_columns(self) -> None:
        stream = io.BytesIO()
        np.savez(stream, faces=np.zeros((5, 3), int), verts=np.c_[FLOATS, [1, 2]])
        stream.seek(0)
        cloud = read(stream)
        np.testing.assert_array_equal(cloud.points, FLOATS)
        assert cloud.skipped == ("1 further columns", "faces")

    def test_structured(self) -> None:
        stream = io.BytesIO()
        np.save(stream, np.array([(9, 1, 2, 3)], [("i", "u1"), ("z", "f4"), ("y", "f4"), ("x", "f4")]))
        stream.seek(0)
        np.testing.assert_array_equal(read(stream).points, [[3, 2, 1]])

    def test_unusable(self) -> None:
        pickled, ambiguous = io.BytesIO(), io.BytesIO()
        np.save(pickled, np.array([[None] * 3]), allow_pickle=True)
        np.savez(ambiguous, a=INTEGERS, b=INTEGERS)
        for stream, message in [(pickled, "not a readable npy"), (ambiguous, "no array is named points")]:
            stream.seek(0)
            with pytest.raises(InputError, match=message):
                read(stream)
        with pytest.raises(InputError):
            read(io.BytesIO(b"PK\x03\x04 and nothing else"))


class TestPointCloud:
    @pytest.mark.parametrize(
        ("points", "message"),
        [
            (np.empty((0, 3)), "no points"),
            ([], "no points"),
            (np.zeros((4, 2)), "shape"),
            (np.zeros(3), "shape"),
            ([[0, 1, 2], [1, 2]], "shape"),
            ([[0, np.nan, 0], [1, 1, 1]], "1 of 2 points have NaN"),
            ([[0, -np.inf, np.inf], [1, np.nan, 1]], "2 of 2 points have NaN"),
            (np.array([[2**63, 0, 0]], np.uint64), "beyond"),
            (np.array([[-(2**53) - 1, 0, 0]]), "beyond"),
            (np.array([[2**70, 0, 0]]), "real numbers"),
            ([["a", "b", "c"]], "real numbers"),
            (np.zeros((2, 3), complex), "real numbers"),
        ],
    )
    def test_unusable(self, points: object, message: str) -> None:
        with pytest.raises(InputError, match=message):
            PointCloud.of(points)  # type: ignore[arg-type]

    def test_integers_are_told_exactly(self) -> None:
        limit = 2.0**53
        assert PointCloud.of([[limit, -limit, 0.0]]).is_integer
        assert not PointCloud.of([[limit * 2, 0.0, 0.0]]).is_integer
        many = np.zeros((300_000, 3), np.float32)
        assert PointCloud.of(many).is_integer
        many[-1, 2] = 1e-30
        assert not PointCloud.of(many).is_integer


class TestLas:
    def test_counts_that_cannot_be_true(self) -> None:
        pytest.importorskip("laspy")
        stream = io.BytesIO()
        write(stream, FLOATS, "las")
        # Number of variable length records, and of points: both offsets are fixed by the format.
        for offset in (100, 107):
            data = bytearray(stream.getvalue())
            data[offset : offset + 4] = b"\xff\xff\xff\x7f"
            with pytest.raises(InputError, match="ends early, or its header is damaged"):
                read(io.BytesIO(bytes(data)))

    def test_skipped_dimensions_are_named_briefly(self, caplog: pytest.LogCaptureFixture) -> None:
        pytest.importorskip("laspy")
        round_trip(FLOATS, "las")
        assert "attributes skipped: intensity, return_number" in caplog.text
        assert caplog.text.rstrip().endswith("more")


class TestFiles:
    def test_missing_empty_and_unknown(self, tmp_path: Path) -> None:
        (tmp_path / "empty.ply").touch()
        (tmp_path / "cloud.doc").write_bytes(b"text")
        with pytest.raises(InputError, match=r"cannot read .*No such file"):
            read(tmp_path / "none.ply")
        with pytest.raises(InputError, match=r"empty\.ply: the file is empty"):
            read(tmp_path / "empty.ply")
        with pytest.raises(InputError, match="format not recognized"):
            read(tmp_path / "cloud.doc")
        with pytest.raises(InputError, match="unknown format 'doc'"):
            read(tmp_path / "cloud.doc", "doc")
        with pytest.raises(InputError, match="directory"):
            read(tmp_path)

    def test_format_by_first_bytes(self, tmp_path: Path) -> None:
        for format in ("ply", "pcd", "npy", "npz"):
            path = tmp_path / "cloud"
            write(path, INTEGERS, format)
            np.testing.assert_array_equal(read(path).points, INTEGERS)

    def test_unknown_suffix_writes_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="no format known"):
            write(tmp_path / "cloud.doc", INTEGERS)
        assert list(tmp_path.iterdir()) == []

    def test_standard_streams_and_cheap_import(self) -> None:
        code = (
            "import sys, pccodec.io as io; io.write('-', io.read('-').points, 'npy'); "
            "sys.exit(bool({'torch', 'open3d', 'laspy', 'scipy', 'plyfile'} & set(sys.modules)))"
        )
        stream = io.BytesIO()
        write(stream, FLOATS, "pcd")
        root = str(Path(__file__).resolve().parents[1])
        done = subprocess.run(
            [sys.executable, "-c", code], input=stream.getvalue(), capture_output=True, check=True, cwd=root
        )
        np.testing.assert_array_equal(np.load(io.BytesIO(done.stdout)), FLOATS)

    def test_las_without_laspy(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setitem(sys.modules, "laspy", None)
        with pytest.raises(DependencyError, match=r"pccodec\[las\]"):
            read(io.BytesIO(b"LASF" + b"\0" * 300))
        with pytest.raises(DependencyError, match=r"pccodec\[las\]"):
            write(tmp_path / "cloud.laz", FLOATS)
        assert list(tmp_path.iterdir()) == []

    @settings(max_examples=150, deadline=None)
    @given(
        format=st.sampled_from(sorted(set(format_names()) - {"las", "laz"})),
        cut=st.integers(0, 400),
        place=st.integers(0, 400),
        value=st.binary(min_size=1, max_size=4),
    )
    def test_mutated_files_give_a_cloud_or_one_line(
        self, format: str, cut: int, place: int, value: bytes
    ) -> None:
        stream = io.BytesIO()
        write(stream, FLOATS, format)
        data = bytearray(stream.getvalue())
        data[place : place + len(value)] = value
        try:
            cloud = read(io.BytesIO(bytes(data[: max(1, len(data) - cut)])), format)
            assert cloud.points.shape[1] == 3
        except InputError as error:
            assert "\n" not in str(error)


class TestAtomicWrite:
    def test_replaces_in_one_step(self, tmp_path: Path) -> None:
        path = tmp_path / "out.bin"
        path.write_bytes(b"old")
        path.chmod(0o640)
        with atomic_write(path) as stream:
            stream.write(b"new")
            stream.flush()
            assert path.read_bytes() == b"old"
        assert path.read_bytes() == b"new"
        assert path.stat().st_mode & 0o777 == 0o640
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, InputError])
    def test_failure_leaves_nothing(self, tmp_path: Path, error: type[BaseException]) -> None:
        with pytest.raises(error), atomic_write(tmp_path / "out.bin") as stream:
            stream.write(b"half")
            raise error
        assert list(tmp_path.iterdir()) == []

    def test_new_file_has_the_usual_permissions(self, tmp_path: Path) -> None:
        usual = tmp_path / "usual"
        usual.touch()
        with atomic_write(tmp_path / "out.bin"):
            pass
        assert (tmp_path / "out.bin").stat().st_mode == usual.stat().st_mode

    def test_link_and_device(self, tmp_path: Path) -> None:
        link, target = tmp_path / "link", tmp_path / "target"
        link.symlink_to(target)
        with atomic_write(link) as stream:
            stream.write(b"data")
        assert link.is_symlink()
        assert target.read_bytes() == b"data"
        with atomic_write(os.devnull) as stream:
            stream.write(b"data")
        assert not Path(os.devnull).is_file()

    def test_impossible_targets(self, tmp_path: Path) -> None:
        for path in (tmp_path / "none" / "out.bin", tmp_path):
            with pytest.raises(InputError, match="cannot write"), atomic_write(path):
                pass

    def test_full_disk(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="No space left"), atomic_write(tmp_path / "out.bin"):
            raise OSError(28, "No space left on device")
        assert list(tmp_path.iterdir()) == []
