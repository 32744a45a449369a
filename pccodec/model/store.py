"""Model files: ``NAME.safetensors`` with all tensors, found by name or by the id in a stream.

One file holds the analysis transform (``analysis.*``, fp16), the integer networks of the
synthesis transform (``synthesis.*``) and of the geometry layers (``geometry.*``), and the
frequency tables of the ranks (``ranks.*``). Its id is the first 8 bytes of its SHA-256. The
shape of the networks stands in ``NAME.json`` beside the training recipe and in
the file's one metadata key.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from pccodec.errors import ModelError
from pccodec.io import atomic_write
from pccodec.model.analysis import AnalysisNetwork
from pccodec.model.config import LATENT_LEVELS, ModelConfig
from pccodec.model.occupancy import OccupancyNetwork
from pccodec.model.synthesis import SynthesisNetwork

DEFAULT = "dense6"
SUFFIX = ".safetensors"
_METADATA_KEY = "config"


_by_path: dict[bytes, Path] = {}
"""Models that were loaded by path, so that what they encode also decodes."""


@dataclass(frozen=True)
class Model:
    """A loaded model; its parts are built when first used.

    Attributes:
        name: file name without suffix.
        id: first 8 bytes of the file's SHA-256.
        config: shape of the autoencoder.
        tensors: all tensors of the file, by name.
    """

    name: str
    id: bytes
    config: ModelConfig
    tensors: Mapping[str, np.ndarray]

    @cached_property
    def geometry(self) -> OccupancyNetwork:
        """Integer context network of the geometry layers."""
        return OccupancyNetwork.from_tensors(self.tensors)

    @cached_property
    def rank_tables(self) -> dict[int, np.ndarray]:
        """Frequency tables uint32 (K, contexts, symbols) of the ranks, by level."""
        return {
            level: self.tensors[f"ranks.{level}"].astype(np.uint32)
            for level in LATENT_LEVELS
            if f"ranks.{level}" in self.tensors
        }

    @cached_property
    def analysis(self) -> AnalysisNetwork:
        """Analysis transform, in floats."""
        return AnalysisNetwork(self.tensors, self.config)

    @cached_property
    def synthesis(self) -> SynthesisNetwork:
        """Integer networks of the synthesis transform."""
        return SynthesisNetwork(self.tensors, self.config)


def save(file: Path, config: ModelConfig, tensors: Mapping[str, np.ndarray]) -> bytes:
    """Write a model file and return its id; equal content gives equal bytes."""
    return write_tensors(file, config.to_json(), tensors)


def write_tensors(file: Path, config: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> bytes:
    """Write tensors and a configuration of JSON values; return the file's id."""
    from safetensors.numpy import save as serialize

    ordered = {name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}
    # A second metadata key would be written in random order and change the hash.
    metadata = {_METADATA_KEY: json.dumps(config, sort_keys=True)}
    with atomic_write(file) as stream:
        stream.write(serialize(ordered, metadata=metadata))
    return file_id(file)


def read_tensors(file: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The configuration and the tensors of a file that :func:`write_tensors` wrote.

    Raises:
        ModelError: the file cannot be read or is no such file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as opened:
            config = json.loads(opened.metadata()[_METADATA_KEY])
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (no mapping)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{file} is not a pccodec model: {error}") from error
    return config, tensors


def folders() -> list[Path]:
    """Where models are looked for: $PCCODEC_MODELS, the source tree, the installation."""
    own = os.environ.get("PCCODEC_MODELS")
    source = Path(__file__).parents[2] / "models"
    installed = Path(sys.prefix) / "share" / "pccodec" / "models"
    return [Path(own), source, installed] if own else [source, installed]


def load(name: str = DEFAULT) -> Model:
    """The model of a name, or of a path that ends in ``.safetensors``.

    Raises:
        ModelError: no such model, or the file is no model.
    """
    file = locate(name)
    model = _load(file)
    if name.endswith(SUFFIX):
        _by_path[model.id] = file
    return model


def locate(name: str) -> Path:
    """The file of a model's name, or of a path that ends in ``.safetensors``.

    Raises:
        ModelError: no model of this name.
    """
    if name.endswith(SUFFIX):
        return Path(name)
    for folder in folders():
        if (folder / (name + SUFFIX)).is_file():
            return folder / (name + SUFFIX)
    raise ModelError(
        f"no model {name!r} in {', '.join(map(str, folders()))}; set PCCODEC_MODELS to its folder"
    )


def load_by_id(wanted: bytes) -> Model:
    """The model whose id stands in a stream.

    Raises:
        ModelError: none of the models at hand has it.
    """
    if wanted in _by_path:
        return _load(_by_path[wanted])
    for folder in folders():
        for file in sorted(folder.glob("*" + SUFFIX)):
            if file_id(file) == wanted:
                return _load(file)
    raise ModelError(
        f"this stream needs the model {wanted.hex()}, which is in none of "
        f"{', '.join(map(str, folders()))}; set PCCODEC_MODELS to its folder"
    )


@lru_cache(maxsize=8)
def file_id(file: Path) -> bytes:
    """First 8 bytes of a file's SHA-256."""
    return hashlib.sha256(file.read_bytes()).digest()[:8]


@lru_cache(maxsize=2)
def _load(file: Path) -> Model:
    values, tensors = read_tensors(file)
    try:
        config = ModelConfig.from_json(values)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{file} is not a pccodec model: {error}") from error
    return Model(file.stem, file_id(file), config, tensors)
