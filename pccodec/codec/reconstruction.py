"""From what is known of a cloud to its voxels."""

from __future__ import annotations

import numpy as np

from pccodec.codec.centers import is_sparse, node_centers
from pccodec.codec.coarse import down_to_synthesis
from pccodec.model.config import LATENT_LEVELS
from pccodec.model.store import Model
from pccodec.model.upsampling import Known, Upsampler


def reconstruct(known: Known, model: Model, upsampler: Upsampler | None = None) -> np.ndarray:
    """Voxels, sorted Morton codes uint64: the known ones, or the most probable or central ones.

    Args:
        known: what is known. ``known.counts`` must hold N_0 and, where the cloud has it, N_1.
        model: the stream's model.
        upsampler: one that is kept while more of the same cloud becomes known.
    """
    if 0 in known.codes:
        return known.codes[0]
    if known.finest == max(known.codes) > LATENT_LEVELS[0] and known.partial is None:
        # The root alone says nothing: whatever is predicted of it may be worse with the first layer.
        return node_centers(known.codes[known.finest], known.finest, None)
    if is_sparse([known.counts[level] for level in (0, 1) if level in known.counts]):
        return node_centers(known.codes[known.finest], known.finest, known.partial)
    return (upsampler or Upsampler(model.synthesis)).voxels(down_to_synthesis(known, model.geometry))
