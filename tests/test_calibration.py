"""The adaptive calibration: exact integers, and gains where a cloud departs from the network's view."""

from __future__ import annotations

import hashlib
from decimal import Decimal, localcontext

import numpy as np

from pccodec.entropy import calibration
from pccodec.entropy.calibration import MAX_BLOCK, Calibration, block_size, integer_log
from pccodec.entropy.contexts import SIZES


def _code_length(bits: np.ndarray, p_one: np.ndarray) -> float:
    p = p_one / 65536
    return float(-np.log2(np.where(bits == 1, p, 1 - p)).sum())


def _run(coords: np.ndarray, logits: np.ndarray, bits: np.ndarray, octant: int = 0) -> np.ndarray:
    adaptive = Calibration(coords)
    adaptive.start_pass(octant, np.zeros((len(SIZES), len(bits)), dtype=np.int64))
    out = []
    for start in range(0, len(bits), MAX_BLOCK):
        block = slice(start, min(start + MAX_BLOCK, len(bits)))
        out.append(adaptive.predict(block, None, logits[block]))
        adaptive.update(bits[block])
    return np.concatenate(out)


def _rounded(exact: Decimal) -> int:
    """The nearest integer, of a value that any library of elementary functions rounds to it."""
    nearest = exact.to_integral_value()
    assert abs(abs(exact - nearest) - Decimal("0.5")) > Decimal("1e-6")
    return int(nearest)


def test_tables_are_the_same_on_every_machine() -> None:
    """Entries computed with 50 digits lie so far from a half that no libm can round them the other way.

    The tables are made in float64 at import; its errors there are below 1e-10, whatever exp and log are used.
    """
    with localcontext(prec=50):
        probabilities = [
            _rounded(65536 / (1 + (-Decimal(logit) / 128).exp())) for logit in range(-2047, 2048)
        ]
        logarithms = [_rounded(1024 * (Decimal(2 * step + 1 + 4096) / 8192).ln()) for step in range(2048)]
    assert calibration.PROBABILITY.tolist() == [min(max(p, 1), 65535) for p in probabilities]
    assert [int(integer_log(np.array([1 + step / 2048]))[0]) for step in range(2048)] == [
        logarithm + 710 for logarithm in logarithms
    ]


def test_tables_are_golden() -> None:
    tables = [calibration.PROBABILITY, integer_log(1 + np.arange(2048) / 2048)]
    assert [hashlib.sha256(table.astype("<i8").tobytes()).hexdigest() for table in tables] == [
        "83914f40f8b215c18829cbff5585f0af0d265c6ab176a05dfa318d62a6d4a617",
        "8361c4ab375e3951deade9892d42b9dc3278358d711fce090c2a9a4b54900f28",
    ]


def test_probability_table_is_symmetric_and_positive() -> None:
    table = calibration.PROBABILITY
    assert table.min() >= 1 and table.max() <= 65535
    assert (np.diff(table) >= 0).all()
    assert (np.abs(table + table[::-1] - 65536) <= 1).all()


def test_integer_log_is_near_the_logarithm() -> None:
    x = np.array([1.0, 2, 3, 655360, 2**40 + 12345, 2**52])
    np.testing.assert_allclose(integer_log(x) / 1024, np.log(x), atol=0.002 + 0.0003 * 52)


def test_a_network_that_is_right_is_left_nearly_alone() -> None:
    rng = np.random.default_rng(0)
    logits = np.floor(rng.normal(0, 200, 40_000))
    p = 1 / (1 + np.exp(-logits / 128))
    bits = (rng.random(len(p)) < p).astype(np.uint8)
    coords = rng.integers(0, 64, (len(p), 3)).astype(np.int32)
    ideal = float(-np.log2(np.where(bits == 1, p, 1 - p)).sum())
    assert _code_length(bits, _run(coords, logits, bits)) < 1.004 * ideal


def test_a_network_that_is_too_unsure_is_sharpened() -> None:
    rng = np.random.default_rng(1)
    logits = np.floor(rng.normal(0, 100, 40_000))
    p = 1 / (1 + np.exp(-3 * logits / 128))
    bits = (rng.random(len(p)) < p).astype(np.uint8)
    coords = rng.integers(0, 64, (len(p), 3)).astype(np.int32)
    plain = _code_length(bits, np.clip(65536 / (1 + np.exp(-logits / 128)), 1, 65535))
    ideal = float(-np.log2(np.where(bits == 1, p, 1 - p)).sum())
    assert _code_length(bits, _run(coords, logits, bits)) < ideal + 0.15 * (plain - ideal)


def test_empty_planes_are_learned() -> None:
    # Octant 1 is the upper half along z: of every second plane it is empty.
    rng = np.random.default_rng(2)
    coords = rng.integers(0, 30, (30_000, 3)).astype(np.int32)
    full = coords[:, 2] % 2 == 0
    bits = (full & (rng.random(len(coords)) < 0.5)).astype(np.uint8)
    logits = np.full(len(bits), -140.0)
    plain = _code_length(bits, np.full(len(bits), 65536 / (1 + np.exp(140 / 128))))
    assert _code_length(bits, _run(coords, logits, bits, octant=1)) < 0.72 * plain


def test_extreme_logits_and_long_runs_stay_in_range() -> None:
    bits = np.ones(200_000, dtype=np.uint8)
    coords = np.zeros((len(bits), 3), dtype=np.int32)
    for logit in (-2047.0, 2047.0):
        p_one = _run(coords, np.full(len(bits), logit), bits)
        assert p_one.min() >= 1
        assert p_one[-1] > 60_000


def test_empty_blocks_are_allowed() -> None:
    adaptive = Calibration(np.zeros((4, 3), dtype=np.int32))
    adaptive.start_pass(7, np.zeros((len(SIZES), 4), dtype=np.int64))
    p_one = adaptive.predict(slice(0, 4), np.zeros(0, dtype=np.int64), np.zeros(0))
    adaptive.update(np.zeros(0, dtype=np.uint8))
    assert len(p_one) == 0


def test_blocks_grow_with_the_level_up_to_the_bound() -> None:
    sizes = [block_size(nodes, in_tile=False) for nodes in (1, 4096, 20_000, 60_000, 10**7)]
    assert sizes == sorted(sizes)
    assert sizes[0] == 64 and sizes[-1] == MAX_BLOCK
    assert all(block_size(n, in_tile=True) == block_size(8 * n, in_tile=False) for n in (1, 300, 2000, 10**5))
