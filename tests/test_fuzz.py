"""Mutated streams decode or end with one error. The long run is ``pccodec.evaluation.fuzz`` itself."""

from __future__ import annotations

import numpy as np
import pytest

from pccodec import codec, container
from pccodec.errors import StreamError
from pccodec.evaluation import fuzz


@pytest.fixture(scope="module")
def streams() -> list[bytes]:
    return fuzz.sample_streams()


def test_mutated_streams_in_a_limited_process(streams: list[bytes]) -> None:
    report = fuzz.fuzz(streams, 300, seed=1_000_000)
    assert not report.findings
    assert sum(report.outcomes.values()) == 300
    assert report.outcomes["decoded"] and report.outcomes["StreamError"]


def test_mutations_are_reproducible_and_differ(streams: list[bytes]) -> None:
    first = [fuzz.mutate(streams, seed) for seed in range(200)]
    assert first == [fuzz.mutate(streams, seed) for seed in range(200)]
    assert {kind for kind, _ in first} == {
        "flip", "cut", "splice", "overwrite", "insert", "noise", "forge"
    }  # fmt: skip
    assert len({data for _, data in first}) > 190


def test_forged_headers_have_true_checksums(streams: list[bytes]) -> None:
    source = np.random.default_rng(0)
    refused = whole = 0
    for _ in range(100):
        try:
            stream = container.parse(fuzz.forge(streams, source))
        except StreamError as error:
            assert "claims" in str(error)
            refused += 1
            continue
        refused += stream.damage is not None and "claims" in stream.damage
        whole += stream.size is not None
    assert refused and whole


def test_findings_are_reported(streams: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(data: bytes) -> np.ndarray:
        raise IndexError("out of range")

    monkeypatch.setattr(codec, "decode", broken)
    report = fuzz.try_streams(streams, range(3))
    assert len(report.findings) == 3 and report.outcomes["defect"] == 3
    assert "IndexError" in report.findings[0]


def test_every_prefix_of_a_tiny_stream_decodes(streams: list[bytes]) -> None:
    data = streams[3]
    for size in range(container.parse(data).header_size, len(data) + 1):
        assert len(codec.decode(data[:size]))
