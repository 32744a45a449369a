"""The network that turns a descriptor into 64 bits, in numpy.

Rotations about the vertical only turn the phases of the descriptor. Two kinds of features do
not see them: the modulus of filtered coefficients, and the largest and mean response of a filter that
is turned through all angles. Three linear layers turn these, and the waves of the size, into the values
whose signs are the bits.

The network computes in floats: between machines a bit whose value is next to zero may differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from pccodec.errors import ModelError
from pccodec.hashing.descriptor import CELLS, FREQUENCIES, descriptor, upright
from pccodec.hashing.search import BITS
from pccodec.model import store

DEFAULT = "hash3"
KIND = "hash"
TURNS = 16
"""Angles at which a turned filter answers."""

_LAYERS = 3


@dataclass(frozen=True)
class HashNetwork:
    """A loaded network.

    Attributes:
        id: first 8 bytes of the model file's SHA-256.
        offset, scale: complex64 and float32 (F, CELLS): ``(spectrum − offset)·scale`` is filtered.
        moduli: complex64 (F, CELLS, M), filters of which the modulus counts (of frequency 0 the value).
        turned: complex64 (F, CELLS, T), filters that are turned.
        layers: weights (out, in) and biases (out,), float32; ReLU between them. The last gives the bits.
    """

    id: bytes
    offset: np.ndarray
    scale: np.ndarray
    moduli: np.ndarray
    turned: np.ndarray
    layers: tuple[tuple[np.ndarray, np.ndarray], ...]

    def code(self, points: np.ndarray, up: str = "z", sized: bool = True) -> int:
        """The 64 bits of a cloud, as an integer whose most significant bit is the first.

        Args:
            points: (n, 3), n ≥ 1, finite.
            up: the axis that points up: "x", "y" or "z".
            sized: whether the size counts. Codes with and without it are no match for each other.
        """
        return self.query(points, up, sized)[0]

    def query(self, points: np.ndarray, up: str = "z", sized: bool = True) -> tuple[int, np.ndarray]:
        """The bits of a cloud as :meth:`code` gives them, and how certain each is, float32 (64,).

        A bit's certainty is the distance of its value from zero, where it would turn.
        """
        seen = descriptor(upright(np.asarray(points), up))
        if not sized:
            seen[:, CELLS] = 0
        values = self.values(seen[None])
        return int(_packed(values)[0]), np.abs(values[0])

    def codes(self, descriptors: np.ndarray) -> np.ndarray:
        """Codes uint64 (n,) of descriptors complex64 (n, F, CELLS + 1)."""
        return _packed(self.values(descriptors))

    def values(self, descriptors: np.ndarray) -> np.ndarray:
        """Values float32 (n, 64) of which the signs are the bits.

        Args:
            descriptors: complex64 (n, F, CELLS + 1), or without the last column for a network that was
                trained so.
        """
        spectra, size = descriptors[..., :CELLS], descriptors[..., CELLS:].reshape(len(descriptors), -1)
        inputs = ((spectra - self.offset) * self.scale).transpose(1, 0, 2)
        moduli = inputs @ self.moduli
        parts = [moduli[0].real, *np.sqrt(np.square(np.abs(moduli[1:])) + 1e-4)]
        responses = np.tensordot(inputs @ self.turned, turns(), axes=(0, 0)).real
        parts += [responses.max(axis=2), np.maximum(responses, 0).mean(axis=2), size.real, size.imag]
        x = np.concatenate(parts, axis=1)
        for index, (weight, bias) in enumerate(self.layers):
            x = (np.maximum(x, 0) if index else x) @ weight.T + bias
        return x


def _packed(values: np.ndarray) -> np.ndarray:
    """Codes uint64 (n,) of values (n, 64)."""
    return np.packbits(values > 0, axis=1).view(">u8")[:, 0].astype(np.uint64)


def turns() -> np.ndarray:
    """Phases complex64 (F, TURNS) of each frequency at each angle, divided by √F."""
    angles = np.arange(TURNS) * (2 * np.pi / TURNS)
    phases = np.exp(1j * np.arange(FREQUENCIES)[:, None] * angles) / np.sqrt(FREQUENCIES)
    return phases.astype(np.complex64)


def to_tensors(network: HashNetwork) -> dict[str, np.ndarray]:
    """The network as tensors for a model file: fp16, the normalization fp32."""
    out = {"offset.real": network.offset.real, "offset.imag": network.offset.imag, "scale": network.scale}
    out = {name: value.astype(np.float32) for name, value in out.items()}
    for name, filters in (("moduli", network.moduli), ("turned", network.turned)):
        out[f"{name}.real"] = filters.real.astype(np.float16)
        out[f"{name}.imag"] = filters.imag.astype(np.float16)
    for index, (weight, bias) in enumerate(network.layers):
        out[f"layer{index}.weight"] = weight.astype(np.float16)
        out[f"layer{index}.bias"] = bias.astype(np.float32)
    return out


def from_tensors(tensors: Mapping[str, np.ndarray], model_id: bytes) -> HashNetwork:
    """The network of a file's tensors.

    Raises:
        KeyError, ValueError: a tensor is missing or has another shape.
    """
    values = {name: value.astype(np.float32) for name, value in tensors.items()}
    network = HashNetwork(
        model_id,
        *(
            _complex(values, "offset"),
            values["scale"],
            _complex(values, "moduli"),
            _complex(values, "turned"),
        ),
        tuple((values[f"layer{index}.weight"], values[f"layer{index}.bias"]) for index in range(_LAYERS)),
    )
    # What does not fit together fails here, not in the middle of a command.
    shape = (1, FREQUENCIES, CELLS + 1)
    if network.values(np.zeros(shape, dtype=np.complex64)).shape != (1, BITS):
        raise ValueError(f"the network does not give {BITS} bits")
    return network


def load(name: str = DEFAULT) -> HashNetwork:
    """The hashing network of a name, or of a path that ends in ``.safetensors``.

    Raises:
        ModelError: no such model, or it is none for hashing.
    """
    return _load(store.locate(name))


@lru_cache(maxsize=2)
def _load(file: Path) -> HashNetwork:
    config, tensors = store.read_tensors(file)
    if not isinstance(config, dict) or config.get("kind") != KIND:
        raise ModelError(f"{file} is not a model for hashing")
    try:
        return from_tensors(tensors, store.file_id(file))
    except (KeyError, ValueError) as error:
        raise ModelError(f"{file} is a damaged model for hashing: {error}") from error


def _complex(values: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    joined: np.ndarray = (values[f"{name}.real"] + 1j * values[f"{name}.imag"]).astype(np.complex64)
    return joined
