"""MaskLayer: features ordered by importance, so that any prefix of them is useful.

After Royen et al., "MaskLayer: Enabling scalable deep learning solutions by
training embedded feature sets", Neural Networks 137 (2021) 43-53. The authors
published no code; the formulas of the gradient rescaling and of the masked
optimizer are ours, and stand with the classes.

The package knows nothing of point clouds and needs torch alone:

* :class:`MaskLayer` keeps the first ``m`` of ``K`` features and zeroes the rest;
* :func:`uniform`, :func:`geometric` and :func:`only` say how often each ``m``
  comes in training, drawn for a batch, drawn for each sample, or all of them
  summed with these weights (:meth:`MaskLayer.prefixes`);
* :class:`MaskedOptimizer` leaves masked features' parameters and moments as they were.
"""

from __future__ import annotations

from pccodec.masklayer.layer import MaskLayer, prefix_mask
from pccodec.masklayer.optimizer import MaskedOptimizer
from pccodec.masklayer.sampling import active_probability, geometric, only, uniform

__all__ = [
    "MaskLayer",
    "MaskedOptimizer",
    "active_probability",
    "geometric",
    "only",
    "prefix_mask",
    "uniform",
]
