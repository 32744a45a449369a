"""What a cut layer makes expect of the child bits that it does not give."""

from __future__ import annotations

import numpy as np
import pytest

from pccodec.codec.cut_layer import expected_beside, layer_decoder
from pccodec.entropy.completion import expected_children
from pccodec.entropy.geometry import LevelContext, encode_level
from pccodec.model.occupancy import OccupancyNetwork
from tests.test_occupancy import random_tensors, sphere

NETWORK = OccupancyNetwork.from_tensors(random_tensors(0, largest=30))
DENSE, SPARSE = {0: 400, 1: 100}, {0: 120, 1: 100}


def _layer(level: int) -> tuple[LevelContext, np.ndarray, bytes]:
    neighbors, occupancy, codes = sphere()
    context = LevelContext(neighbors, level, {level + 1: len(codes)}, codes)
    return context, occupancy, encode_level(NETWORK, context, occupancy)


@pytest.mark.parametrize(
    ("level", "counts", "synthesis"), [(1, DENSE, True), (1, SPARSE, False), (3, DENSE, False)]
)
def test_before_the_first_milestone_synthesis_predicts_if_it_can(
    level: int, counts: dict[int, int], synthesis: bool
) -> None:
    context, occupancy, data = _layer(level)
    decoder = layer_decoder(NETWORK, context)
    _, known = decoder.decode(data[: len(data) // 20], complete=False)
    assert known.any() and decoder.octant == 0
    expected = expected_beside(decoder, counts)
    if synthesis:
        assert expected is None
    else:
        np.testing.assert_array_equal(expected, expected_children(NETWORK, context, occupancy, 0))


def test_what_is_expected_is_renewed_behind_some_octants() -> None:
    context, occupancy, data = _layer(0)
    decoder, ends = layer_decoder(NETWORK, context), {}
    for size in range(1, len(data), 9):
        decoder.decode(data[:size], complete=False)
        ends[decoder.octant] = decoder.milestone.octants
        expected = expected_beside(decoder, DENSE)
        if expected is not None:
            of_octants = expected_children(NETWORK, context, occupancy, decoder.milestone.octants)
            np.testing.assert_array_equal(expected, of_octants)
    assert ends == {0: 0, 1: 1, 2: 1, 3: 3, 4: 3, 5: 5, 6: 5, 7: 5}
