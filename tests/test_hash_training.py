"""Training of the hashing network: captures, which shapes are the same, loss, and the exported network."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pccodec import hashing
from pccodec.hashing.descriptor import size_waves
from pccodec.masklayer import MaskLayer, only
from pccodec.training import hash_retrieval
from pccodec.training.captures import CONDITIONS, NOISY, CaptureConfig, capture_shape, load_triangles
from pccodec.training.hash_twin import HashTwin
from pccodec.training.hashing import HashTraining, ShapeLoss, evaluate, main, train, values_of
from pccodec.training.shape_descriptors import ShapeDescriptors, same_sizes
from pccodec.training.shapes import mesh_files


def _box(size: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Vertices float32 (8, 3) and faces int32 (12, 3) of a box."""
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=np.float32)
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = [half for a, b, c, d in quads for half in ((a, b, c), (a, c, d))]
    return corners * np.array(size, dtype=np.float32), np.array(faces, dtype=np.int32)


@pytest.fixture(scope="module")
def meshes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five meshes; the last is the first in another size."""
    folder = tmp_path_factory.mktemp("meshes")
    sizes = ((1, 1, 4), (3, 1, 1), (3, 3, 1), (1, 2, 3), (2, 2, 8))
    for number, size in enumerate(sizes):
        verts, faces = _box((float(size[0]), float(size[1]), float(size[2])))
        np.savez(folder / f"box_{number}.npz", verts=verts, faces=faces)
    return folder


@pytest.fixture(scope="module")
def shapes(meshes: Path) -> ShapeDescriptors:
    return ShapeDescriptors.build(mesh_files(meshes), captures=4)


def test_the_same_shape_in_another_size_is_the_same_shape(shapes: ShapeDescriptors) -> None:
    expected = np.eye(5, dtype=bool)
    expected[0, 4] = expected[4, 0] = True
    assert (shapes.same_shape == expected).all()
    assert (shapes.same == np.eye(5, dtype=bool)).all()
    assert shapes.without_size().same[0, 4]


def test_sizes_are_the_same_within_two_percent() -> None:
    octaves = np.log2([1e-6, 1.0, 1.019, 1.03, 2.0**28])
    expected = np.eye(5, dtype=bool)
    expected[1, 2] = expected[2, 1] = expected[2, 3] = expected[3, 2] = True
    assert (same_sizes(size_waves(octaves)) == expected).all()


def test_descriptors_are_kept(shapes: ShapeDescriptors, tmp_path: Path) -> None:
    shapes.save(tmp_path / "cache.npz")
    again = ShapeDescriptors.load(tmp_path / "cache.npz")
    assert list(again.names) == [f"box_{number}" for number in range(5)]
    assert np.array_equal(again.training, shapes.training)
    assert list(again.queries) == list(CONDITIONS)
    part = again.subset(np.array([4, 0]))
    assert part.names == ["box_4", "box_0"] and part.same_shape.all() and not part.same[0, 1]
    assert np.array_equal(part.training[:, 1], shapes.training[:, 0])


def _capture(meshes: Path, config: CaptureConfig, number: int = 3) -> np.ndarray:
    return capture_shape(load_triangles(mesh_files(meshes)[number]), config, np.random.default_rng(0))


def test_captures_are_what_their_names_say(meshes: Path) -> None:
    clean = replace(NOISY, noise=(0.0, 0.0), rotated=False, points=(4001, 4001))
    points = _capture(meshes, clean)
    assert 4000 <= len(points) <= 4001 and points.dtype == np.float32
    on_a_side = (np.abs(points) < 1e-5) | (np.abs(points - [1, 2, 3]) < 1e-5)
    assert on_a_side.any(axis=1).all()
    seen = _capture(meshes, replace(clean, viewed=1.0, points=(16000, 16000)))
    assert 4000 < len(seen) < 12000
    # A box shows three sides at most; pixels at its edges let a few points of the others through.
    sides = [np.abs(seen[:, axis] - at) < 1e-5 for axis, end in enumerate((1, 2, 3)) for at in (0, end)]
    assert 1 <= sum(side.mean() > 0.05 for side in sides) <= 3
    assert 2800 <= len(_capture(meshes, replace(clean, cropped=1.0))) <= 4001
    assert len(_capture(meshes, replace(clean, uneven=1.0))) < 3500
    noisy = _capture(meshes, replace(clean, noise=(0.01, 0.01)))
    assert 0 < np.abs(noisy - np.clip(noisy, 0, [1, 2, 3])).max() < 0.06 * np.linalg.norm([1, 2, 3])


def test_turned_captures_keep_their_heights(meshes: Path) -> None:
    clean = replace(NOISY, noise=(0.0, 0.0), points=(2000, 2000))
    straight, turned = _capture(meshes, replace(clean, rotated=False)), _capture(meshes, clean)
    assert np.allclose(straight[:, 2], turned[:, 2])
    assert np.allclose(np.hypot(*straight[:, :2].T), np.hypot(*turned[:, :2].T), atol=1e-5)
    assert not np.allclose(straight, turned, atol=1e-2)


def test_humans_stand_on_their_feet(meshes: Path, tmp_path: Path) -> None:
    verts, faces = _box((1.0, 4.0, 2.0))
    np.savez(tmp_path / "human_0.npz", verts=verts, faces=faces)
    corners = load_triangles(tmp_path / "human_0.npz").reshape(-1, 3)
    assert np.ptp(corners, axis=0).tolist() == [1.0, 2.0, 4.0]


def test_the_numpy_network_is_the_trained_one(shapes: ShapeDescriptors) -> None:
    torch.manual_seed(0)
    twin = HashTwin(moduli=5, turned=7, widths=(12, 9), bits=64)
    spectra = torch.from_numpy(shapes.training.reshape(-1, *shapes.training.shape[2:]))
    twin.fit(spectra)
    for _ in range(20):
        twin(spectra)
    twin.eval()
    with torch.no_grad():
        expected = twin(spectra).numpy()
    values = twin.export().values(spectra.numpy())
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(values, expected, atol=1e-3)


def test_the_same_shape_is_no_wrong_answer() -> None:
    same = np.eye(3, dtype=bool)
    same[0, 2] = same[2, 0] = True
    loss = ShapeLoss(same, bits=4)
    codes = torch.tensor([[1.0, 1, 1, 1], [-1, -1, -1, -1], [1, 1, 1, 1]])
    loss.codes.data = 3 * codes
    meshes = torch.tensor([0, 1, 2])
    apart = ShapeLoss(np.eye(3, dtype=bool), bits=4)
    apart.codes.data = 3 * codes
    twice = codes.repeat(2, 1)
    assert loss(twice, meshes, 4).item() < 0.01
    assert apart(twice, meshes, 4).item() > 0.4


def test_training_learns_to_tell_shapes(shapes: ShapeDescriptors) -> None:
    config = HashTraining(steps=100, batch=5, moduli=4, turned=4, widths=(32, 16), lengths=(8, 64))
    losses: list[float] = []
    network = train(
        shapes,
        config,
        MaskLayer(64, only(64, config.lengths), rescale=False),
        MaskLayer.prefixes,
        progress=lambda done, loss: losses.append(loss),
    ).export()
    assert np.mean(losses[-5:]) < 0.5 * losses[0]
    rows = evaluate(network, shapes, np.array([False] * 4 + [True]))
    found = {(row["condition"], row["bits"]): row for row in rows}
    assert found["noise", 64]["p1_shape"] >= 0.8
    assert found["noise", 64]["p1_shape"] >= found["noise", 64]["p1_mesh"]
    assert set(found["noise", 64]) >= {"p1_mesh_unseen", "p1_shape_unseen"}


def test_the_command_writes_a_model_that_hashes(meshes: Path, tmp_path: Path) -> None:
    output, cache = tmp_path / "tiny.safetensors", tmp_path / "cache" / "captures.npz"
    arguments = ["--data", meshes, "--cache", cache, "--captures", "2", "--steps", "2", "-o", output]
    for more, unseen in ((), 0), (("--hold-out",), 1):
        assert main([str(argument) for argument in (*arguments, *more)]) == 0
        card = json.loads(output.with_suffix(".json").read_text())
        assert card["meshes"]["unseen"] == unseen
        assert ("p1_mesh_unseen" in card["retrieval"][0]) == bool(unseen)
    assert cache.exists()
    assert 0 <= hashing.load(str(output)).code(_box((1.0, 2.0, 3.0))[0]) < 2**64


def test_the_command_refuses_what_it_cannot_use(
    shapes: ShapeDescriptors, meshes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache, junk, output = tmp_path / "cache", tmp_path / "junk", tmp_path / "m.safetensors"
    shapes.subset(np.arange(2)).save(cache)
    junk.mkdir()
    np.savez(junk / "a.npz", nothing=np.zeros(1))
    for data, captures, model, words in (
        (junk, tmp_path / "new", output, "not a mesh"),
        (tmp_path, tmp_path / "new", output, "no training meshes"),
        (meshes, cache, output, "other meshes"),
        (meshes, junk / "a.npz", output, "not a file of simulated captures"),
        (meshes, cache, tmp_path / "m.bin", "NAME.safetensors"),
    ):
        assert main(["--data", str(data), "--cache", str(captures), "-o", str(model)]) == 3
        assert words in capsys.readouterr().err
        assert not output.exists()


def test_the_nearest_code_is_that_of_another_mesh() -> None:
    loss = ShapeLoss(np.eye(4, dtype=bool), bits=2)
    loss.codes.data = torch.tensor([[3.0, 3.0], [3.0, 2.5], [-3.0, -3.0], [-2.0, 0.1]])
    assert loss.nearest(np.array([2, 0, 1])).tolist() == [3, 1, 0]


def test_sharp_codes_come_near_their_signs(shapes: ShapeDescriptors) -> None:
    values = {}
    for sharpness in (1.0, 4.0):
        config = HashTraining(
            steps=60, batch=5, moduli=4, turned=4, widths=(32, 16), lengths=(64,), sharpness=sharpness
        )
        layer = MaskLayer(64, only(64, config.lengths), rescale=False)
        found = values_of(train(shapes, config, layer, MaskLayer.prefixes).export(), shapes.index)
        values[sharpness] = np.abs(np.tanh(sharpness * found))
    assert values[4.0].mean() > 0.8 > values[1.0].mean()


def test_fresh_captures_are_measured_in_pairs(meshes: Path, tmp_path: Path) -> None:
    file = tmp_path / "retrieval.json"
    assert hash_retrieval.main(["--data", str(meshes), "--captures", "3", "--json", str(file)]) == 0
    report = json.loads(file.read_text())
    assert report["meshes"] == 5 and report["model"] == hashing.load().id.hex()
    for rows in (report["retrieval"], report["retrieval_ignoring_size"]):
        assert [row["bits"] for row in rows] == [8, 16, 32, 64]
        assert rows[-1]["search"] >= 0.6 and rows[-1]["search_std"] >= 0
    # Without the size one box is the other in twice the size.
    assert report["retrieval_ignoring_size"][-1]["hamming"] < report["retrieval"][-1]["hamming"]
    first, again = (hash_retrieval.simulate(mesh_files(meshes), count, 3) for count in (2, 1))
    assert np.array_equal(first[:1], again) and not np.array_equal(first[0], first[1])
    with pytest.raises(SystemExit):
        hash_retrieval.main(["--data", str(meshes), "--captures", "1"])
