"""How often another noisy capture of a mesh finds it: fresh captures, with their spread.

``python -m pccodec.training.hash_retrieval --data MESHES --json FILE``

Several captures of each mesh are simulated with a seed that neither training nor its own test has. Each
is the index once for all the others, which are the queries. One pair of captures tells the figure to
0.4 points only.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pccodec import hashing
from pccodec.evaluation.command import command, publish
from pccodec.evaluation.report import source_commit
from pccodec.evaluation.retrieval import hamming, precision_at, search_ranks
from pccodec.hashing.descriptor import CELLS, FREQUENCIES, descriptor
from pccodec.hashing.network import HashNetwork
from pccodec.training.captures import NOISY, capture_shape, load_triangles
from pccodec.training.hashing import MEASURED, values_of
from pccodec.training.shapes import mesh_files

_SEED = 100
"""Far from those of :mod:`pccodec.training.shape_descriptors`."""


def simulate(files: Sequence[Path], captures: int, seed: int) -> np.ndarray:
    """Descriptors complex64 (captures, M, F, CELLS + 1) of noisy, turned captures of M meshes."""
    out = np.empty((captures, len(files), FREQUENCIES, CELLS + 1), dtype=np.complex64)
    for place, file in enumerate(files):
        triangles = load_triangles(file)
        rng = np.random.default_rng([seed, place])
        for own in out[:, place]:
            own[:] = descriptor(capture_shape(triangles, NOISY, rng))
    return out


def measure(network: HashNetwork, descriptors: np.ndarray) -> list[dict[str, Any]]:
    """Precision@1 of the very mesh by bits, mean and standard deviation over pairs of captures.

    ``search`` ranks as ``pccodec search`` does, ``hamming`` by the distance alone, with the expectation
    under ties.

    Args:
        network: makes the codes.
        descriptors: complex64 (captures, M, F, CELLS + 1).
    """
    values = [values_of(network, own) for own in descriptors]
    itself = np.eye(descriptors.shape[1], dtype=bool)
    rows = []
    for bits in MEASURED:
        found: dict[str, list[float]] = {"search": [], "hamming": []}
        for stored, query in itertools.permutations(values, 2):
            found["search"].append(precision_at(search_ranks(query, stored > 0, bits), itself, 1).mean())
            found["hamming"].append(precision_at(hamming(query > 0, stored > 0, bits), itself, 1).mean())
        row: dict[str, Any] = {"bits": bits}
        for name, parts in found.items():
            row |= {name: round(float(np.mean(parts)), 4), f"{name}_std": round(float(np.std(parts)), 4)}
        rows.append(row)
    return rows


@command
def main(arguments: list[str] | None = None) -> None:
    """Print precision@1 by bits, with the size and without, and write it as JSON."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of meshes (*.npz)")
    parser.add_argument("--captures", type=int, default=6, help="of each mesh")
    parser.add_argument("--seed", type=int, default=_SEED)
    parser.add_argument("--model", default=hashing.DEFAULT)
    parser.add_argument("--json", type=Path, help="file to write")
    options = parser.parse_args(arguments)
    if options.captures < 2:
        parser.error("--captures: a query and an index need one each")
    network = hashing.load(options.model)
    descriptors = simulate(mesh_files(options.data), options.captures, options.seed)
    report = {
        "commit": source_commit(),
        "model": network.id.hex(),
        "meshes": descriptors.shape[1],
        "captures": options.captures,
        "seed": options.seed,
        "retrieval": measure(network, descriptors),
    }
    descriptors[..., CELLS] = 0
    report["retrieval_ignoring_size"] = measure(network, descriptors)
    publish(report, options.json)


if __name__ == "__main__":
    sys.exit(main())
