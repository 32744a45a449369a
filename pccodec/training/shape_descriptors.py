"""Descriptors of many captures of all meshes, kept in a file, and which meshes are the same shape."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pccodec.errors import InputError
from pccodec.hashing.descriptor import ANGLES, CELLS, FREQUENCIES, OCTAVES, descriptor
from pccodec.io import atomic_write
from pccodec.training.captures import (
    CONDITIONS,
    NOISY,
    TRAINING,
    CaptureConfig,
    capture_shape,
    load_triangles,
)

CLEAN = replace(NOISY, points=(16384, 16384), noise=(0.0, 0.0), rotated=False)
SAME_SIZE = 0.02
"""Two meshes whose sizes differ by a smaller part are of the same size: a capture measures it no better."""

SHAKEN = replace(CLEAN, noise=(NOISY.noise[1], NOISY.noise[1]))

_ARRAYS = ("training", "index", "same_shape", "same")

_TRAINING, _TEST, _CLEAN, _SHAKEN = (7, 0), (8, 0), (9, 0), (9, 1)
"""Seeds; together with a mesh's position they give its captures."""


@dataclass(frozen=True)
class ShapeDescriptors:
    """Descriptors complex64 of M meshes; captures of training and test are drawn apart.

    Attributes:
        names: of the meshes.
        training: (N, M, F, CELLS + 1), captures under :data:`TRAINING`.
        index: (M, F, CELLS + 1), a capture under :data:`NOISY` to be found.
        queries: (M, F, CELLS + 1) for each condition of :data:`CONDITIONS`.
        same_shape: bool (M, M), meshes of the same shape in any size, see :func:`same_shapes`.
        same: bool (M, M), those that have the same size too, see :func:`same_sizes`.
    """

    names: Sequence[str]
    training: np.ndarray
    index: np.ndarray
    queries: dict[str, np.ndarray]
    same_shape: np.ndarray
    same: np.ndarray

    @classmethod
    def build(
        cls, files: Sequence[Path], captures: int, progress: Callable[[int], None] = lambda done: None
    ) -> ShapeDescriptors:
        """Simulate ``captures`` training captures of each mesh, and one for each test.

        Args:
            files: the meshes.
            captures: N.
            progress: called with the number of meshes done.
        """
        shape = (len(files), FREQUENCIES, CELLS + 1)
        training = np.empty((captures, *shape), dtype=np.complex64)
        test = np.empty((1 + len(CONDITIONS), *shape), dtype=np.complex64)
        clean = np.empty((3, *shape), dtype=np.complex64)
        tests = [NOISY, *CONDITIONS.values()]
        for place, file in enumerate(files):
            triangles = load_triangles(file)
            for seed, configs, out in (
                (_TRAINING, [TRAINING] * captures, training),
                (_TEST, tests, test),
                (_CLEAN, [CLEAN, CLEAN], clean[:2]),
                (_SHAKEN, [SHAKEN], clean[2:]),
            ):
                _fill(out[:, place], triangles, configs, np.random.default_rng([seed[0], place, seed[1]]))
            progress(place + 1)
        queries = dict(zip(CONDITIONS, test[1:], strict=True))
        same_shape = same_shapes(*clean[..., :CELLS])
        same = same_shape & same_sizes(clean[0, ..., CELLS])
        return cls([file.stem for file in files], training, test[0], queries, same_shape, same)

    def save(self, path: Path) -> None:
        """Write the file; it appears whole or not at all."""
        queries = {f"query {name}": value for name, value in self.queries.items()}
        parts = {name: getattr(self, name) for name in _ARRAYS}
        with atomic_write(path) as file:
            np.savez(file, names=np.array(self.names), **parts, **queries)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> ShapeDescriptors:
        """Read what :meth:`save` wrote.

        Raises:
            InputError: the file is none of these.
        """
        try:
            with np.load(path) as file:
                queries = {name: file[f"query {name}"] for name in CONDITIONS}
                parts = {name: file[name] for name in _ARRAYS}
                return cls(file["names"].tolist(), queries=queries, **parts)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise InputError(f"{path} is not a file of simulated captures: {error}") from error

    def subset(self, meshes: np.ndarray) -> ShapeDescriptors:
        """Those of some meshes, by their positions."""
        return ShapeDescriptors(
            [self.names[mesh] for mesh in meshes],
            self.training[:, meshes],
            self.index[meshes],
            {name: value[meshes] for name, value in self.queries.items()},
            self.same_shape[np.ix_(meshes, meshes)],
            self.same[np.ix_(meshes, meshes)],
        )

    def without_size(self) -> ShapeDescriptors:
        """These without the column of the size, (…, F, CELLS); shapes are then the same in any size."""
        return self._any_size(lambda descriptors: descriptors[..., :CELLS])

    def ignoring_size(self) -> ShapeDescriptors:
        """These with zeros for the size, as hashes that ignore it; shapes are then the same in any size."""
        kept = np.arange(CELLS + 1) < CELLS
        return self._any_size(lambda descriptors: descriptors * kept)

    def _any_size(self, change: Callable[[np.ndarray], np.ndarray]) -> ShapeDescriptors:
        queries = {name: change(value) for name, value in self.queries.items()}
        return replace(
            self,
            training=change(self.training),
            index=change(self.index),
            queries=queries,
            same=self.same_shape,
        )


def same_shapes(first: np.ndarray, second: np.ndarray, shaken: np.ndarray) -> np.ndarray:
    """Which meshes are the same shape as far as noise lets tell, bool (M, M), symmetric.

    The data hold shapes several times: spheres, boxes and rods, finer and coarser meshes, copies in
    other packages. Two meshes count as one shape if, turned to fit best, they differ in clean captures
    by less than what the most noise of :data:`NOISY` makes of either.

    Args:
        first, second, shaken: complex64 (M, F, CELLS), spectra of two clean captures and of a noisy one.
    """
    noise = np.linalg.norm((first - shaken).reshape(len(first), -1), axis=1)
    return turned_distances(first, second) < np.minimum(noise[:, None], noise) + 1e-6


def same_sizes(waves: np.ndarray) -> np.ndarray:
    """Which meshes have the same size, bool (M, M), from the waves complex64 (M, F) of clean captures."""
    # The longest wave turns by less than half, so that its phase is the size.
    octaves = np.angle(waves[:, 0]) * (OCTAVES / (2 * np.pi))
    alike: np.ndarray = np.abs(octaves[:, None] - octaves) < np.log2(1 + SAME_SIZE)
    return alike


def turned_distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Smallest distance over turns about the vertical, symmetric float64 (M, M), 0 on the diagonal.

    ``min_φ |a − e^(−ikφ) b|² = |a|² + |b|² − 2·max_φ Re Σ_k e^(ikφ) Σ_r a_kr·conj(b_kr)``, at 64 turns.
    """
    count = len(first)
    angles = np.arange(ANGLES) * (2 * np.pi / ANGLES)
    best = np.full((count, count), -np.inf, dtype=np.float32)
    products = np.stack([first[:, k] @ second[:, k].conj().T for k in range(FREQUENCIES)])
    for angle in angles:
        turn = np.exp(1j * np.arange(FREQUENCIES) * angle).astype(np.complex64)
        np.maximum(best, np.tensordot(turn, products, axes=1).real, out=best)
    powers = [np.square(np.abs(x)).reshape(count, -1).sum(1).astype(np.float64) for x in (first, second)]
    squared = powers[0][:, None] + powers[1] - 2 * best
    distances = np.sqrt(np.maximum((squared + squared.T) / 2, 0))
    np.fill_diagonal(distances, 0)
    out: np.ndarray = distances
    return out


def _fill(
    out: np.ndarray, triangles: np.ndarray, configs: Sequence[CaptureConfig], rng: np.random.Generator
) -> None:
    for place, config in enumerate(configs):
        out[place] = descriptor(capture_shape(triangles, config, rng))
