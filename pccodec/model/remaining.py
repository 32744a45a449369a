"""Integer network that expects all child bits of a level which are not known yet, in one go.

The passes of the context network (:mod:`pccodec.model.occupancy`) each expect one octant, given those
before it. Behind a cut these are not known, and to guess one octant after the other takes as long as
to decode them. This network begins with what the passes made of the known octants, their sums, and
looks around once more. Each number ``m`` of known octants has weights of its own:

    hidden  = act(sums + bias_m)            message = act(hidden · M_m)
    mixed   = act(hidden · O_m + 3x3x3 convolution of message)
    logits  = act(mixed · D_m) · L_m        of all eight bits, in 1/128 nat

Its float twin is :class:`pccodec.training.remaining_twin.RemainingTwin`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pccodec.model.probability import LOGIT_MAX
from pccodec.model.stream import Tensors
from pccodec.sparse.integer import ACTIVATION_MAX, ExactSum, activate, gathered, node_blocks
from pccodec.sparse.neighbors import KERNEL

TENSOR_PREFIX = "geometry.remaining."


class RemainingNetwork:
    """The network for one number of known octants; immutable.

    Args:
        tensors: those of a model file.
        octants: how many are known.
        hidden: channels of the sums that it begins with.

    Attributes:
        bias: int64 (hidden,), what it adds to these.

    Raises:
        ModelError: if tensors are missing, have the wrong shape, or could overflow.
    """

    def __init__(self, tensors: Mapping[str, np.ndarray], octants: int, hidden: int) -> None:
        named = {name: value for name, value in tensors.items() if name.startswith(TENSOR_PREFIX)}
        own = Tensors({name: value[octants] for name, value in named.items()}, TENSOR_PREFIX)
        self._channels, mixed = own["message.bias"].size, own["around.bias"].size
        deep = own["deep.bias"].size
        self.bias = own.bias("hidden", hidden)
        self._message = own.sum("message", hidden, self._channels)
        self._mixed = ExactSum(
            TENSOR_PREFIX + "around",
            [
                own.part("own", ACTIVATION_MAX, hidden, mixed),
                own.part("around", ACTIVATION_MAX, KERNEL * self._channels, mixed),
            ],
            own.bias("around", mixed),
        )
        self._deep, self._logit = own.sum("deep", mixed, deep), own.sum("logit", deep, 8)

    def logits(self, sums: np.ndarray, offset: np.ndarray, neighbors: np.ndarray) -> np.ndarray:
        """Logits int16 (n, 8) of all child bits; those of the known octants are of no meaning.

        Args:
            sums: fp32 (n, H), what the passes made of the known octants.
            offset: fp32 (H,), their bias and this network's, and the half that rounds.
            neighbors: int32 (n, 27).
        """
        message = np.zeros((len(sums) + 1, self._channels), dtype=np.uint8)
        mixed = np.empty((len(sums), len(self._mixed.offset)), dtype=np.float32)
        for nodes in node_blocks(len(sums)):
            hidden = activate(sums[nodes] + offset)
            message[nodes] = activate(self._message.times(hidden) + self._message.offset)
            np.add(self._mixed.times(hidden), self._mixed.offset, out=mixed[nodes])
        out = np.empty((len(sums), 8), dtype=np.int16)
        for nodes in node_blocks(len(sums), channels=self._channels):
            told = activate(self._mixed.times(gathered(message, neighbors[nodes]), part=1) + mixed[nodes])
            deep = activate(self._deep.times(told) + self._deep.offset)
            found = np.floor(self._logit.times(deep) + self._logit.offset)
            out[nodes] = np.clip(found, -LOGIT_MAX, LOGIT_MAX)
        return out
