"""From what is known of a cloud to its voxels."""

from __future__ import annotations

import numpy as np

from pccodec.codec.coarse import down_to_synthesis
from pccodec.codec.cut_layer import expected_of_layer
from pccodec.codec.expected_points import expected_points, is_sparse, node_centers
from pccodec.codec.layers import next_context
from pccodec.model.config import LATENT_LEVELS
from pccodec.model.store import Model
from pccodec.model.upsampling import Known, Upsampler


def reconstruct(known: Known, model: Model, upsampler: Upsampler | None = None) -> np.ndarray:
    """Voxels, sorted Morton codes uint64: the known ones, or the most probable or expected ones.

    Args:
        known: what is known. ``known.counts`` must hold N_0 and, where the cloud has it, N_1.
        model: the stream's model.
        upsampler: one that is kept while more of the same cloud becomes known.
    """
    finest = known.finest
    if finest == 0:
        return known.codes[0]
    if finest == max(known.codes) > LATENT_LEVELS[0] and known.partial is None:
        # The root alone says nothing: whatever is predicted of it may be worse with the first layer.
        return node_centers(known.codes[finest], finest)
    if is_sparse([known.counts[level] for level in (0, 1) if level in known.counts]):
        partial = known.partial or expected_of_layer(model.geometry, next_context(known))
        return expected_points(known.codes[finest], finest, partial, known.counts[0])
    return (upsampler or Upsampler(model.synthesis)).voxels(down_to_synthesis(known, model.geometry))
