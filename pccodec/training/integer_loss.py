"""What integers cost: ``python -m pccodec.training.integer_loss --checkpoint FILE CLOUD… --json FILE``.

Streams of the shipped model are decoded behind each layer twice: by the integer synthesis
transform, and by the float network of the same training, with no weight, bias or activation
rounded or bounded. The bytes are the same, so the BD-rate between both curves is the loss in
quality through integers. (The geometry network was trained in integers from its first step and
has no float network to compare with.)
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pccodec import codec, container, io
from pccodec.evaluation.bdrate import anchor_curve, bd_rate, codec_curve
from pccodec.evaluation.command import command
from pccodec.evaluation.metrics import Reference, table_psnr
from pccodec.evaluation.summary import clouds_parser, summarize
from pccodec.model import store
from pccodec.model.config import ModelConfig
from pccodec.model.probability import LOGIT_UNIT
from pccodec.training.autoencoder import Autoencoder, LevelSynthesis
from pccodec.training.draft_twin import DraftTwin
from pccodec.training.quantization import in_floats
from pccodec.training.stream_twin import LevelInput


class FloatLevel:
    """A level network in floats behind the face of :class:`pccodec.model.synthesis.LevelNetwork`."""

    def __init__(self, twin: LevelSynthesis) -> None:
        self._twin = twin

    def embed(self, neighbors: np.ndarray, given: np.ndarray, inherited: Tensor | None) -> Tensor:
        """Context stream, fp32 (n, C)."""
        told = torch.from_numpy(given.astype(np.float32)).expand(len(neighbors), -1)
        with torch.no_grad(), in_floats():
            return self._twin.embed(LevelInput(torch.from_numpy(neighbors), told, inherited), torch.float32)

    def predict(
        self, context: Tensor, neighbors: np.ndarray, symbols: np.ndarray, active: np.ndarray
    ) -> tuple[np.ndarray, Tensor]:
        """Logits (n, 8) in 1/LOGIT_UNIT nat, and activations; all nodes have the same active ranks."""
        ranks = int(active[0])
        y_hat = torch.zeros(len(context), self._twin.mask.features)
        y_hat[:, : symbols.shape[1]] = torch.from_numpy(symbols)
        with torch.no_grad(), in_floats():
            logits, features = self._twin(context, torch.from_numpy(neighbors), y_hat, ranks, torch.float32)
        return np.rint(logits.numpy() * LOGIT_UNIT).astype(np.int32), features

    def inherit(self, features: Tensor, node: np.ndarray, octant: np.ndarray) -> Tensor:
        """Stream (k, C') of the children."""
        with torch.no_grad(), in_floats():
            return self._twin.inherit(features, torch.from_numpy(node), torch.from_numpy(octant))


class FloatDraft:
    """The draft network in floats behind the face of :class:`pccodec.model.draft.DraftNetwork`."""

    def __init__(self, twin: DraftTwin) -> None:
        self._twin = twin

    def inherit(self, features: Tensor, node: np.ndarray, octant: np.ndarray) -> Tensor:
        """Stream (n, C) of the nodes."""
        with torch.no_grad(), in_floats():
            return self._twin.inherit(features, torch.from_numpy(node), torch.from_numpy(octant))

    def predict(self, neighbors: np.ndarray, given: np.ndarray, inherited: Tensor) -> np.ndarray:
        """Logits (n, 8) in 1/LOGIT_UNIT nat."""
        told = torch.from_numpy(given.astype(np.float32)).expand(len(neighbors), -1)
        with torch.no_grad(), in_floats():
            logits = self._twin(LevelInput(torch.from_numpy(neighbors), told, inherited), torch.float32)
        return np.rint(logits.numpy() * LOGIT_UNIT).astype(np.int32)


class FloatSynthesis:
    """The float networks of all levels behind the face of the integer ones."""

    def __init__(self, checkpoint: Path) -> None:
        state = torch.load(checkpoint, weights_only=True)
        self._model = Autoencoder(ModelConfig.from_json(state["config"]["model"]))
        self._model.load_state_dict({name: value.float() for name, value in state["average"].items()})
        self._model.eval()
        self.draft = FloatDraft(self._model.draft)

    def level(self, level: int) -> FloatLevel:
        """The network of level 3, 2 or 1."""
        return FloatLevel(self._model.synthesis(level))


def measure(file: Path, floats: FloatSynthesis) -> dict[str, Any]:
    """BD-rate in percent of integers against floats on one cloud, and the D1 of both behind each layer."""
    points = io.read(file).points
    reference = Reference(points)
    model = store.load()
    data = codec.encode(points)
    exact = model.synthesis
    sizes = [layer.offset + layer.length for layer in container.parse(data).layers][:-1]
    quality: dict[str, list[float]] = {}
    for name, network in (("floats", floats), ("integers", exact)):
        # The decoder finds the model by its id and takes the networks that it holds.
        model.__dict__["synthesis"] = network
        found = [reference.compare(codec.decode(data[:size])).d1_psnr for size in sizes]
        quality[name] = [round(table_psnr(value), 3) for value in found]
    rate = bd_rate(anchor_curve(sizes, quality["floats"]), codec_curve(sizes, quality["integers"]))
    return {"cloud": file.stem, "bd_rate_d1": round(rate, 3), "bytes": sizes, **quality}


@command
def main(arguments: list[str] | None = None) -> None:
    """Print and write the loss on each cloud and its mean."""
    parser = clouds_parser("BD-rate lost through integers.")
    parser.add_argument("--checkpoint", type=Path, required=True)
    options = parser.parse_args(arguments)
    floats = FloatSynthesis(options.checkpoint)
    rows = []
    for cloud in options.clouds:
        rows.append(measure(cloud, floats))
        print(f"{rows[-1]['cloud']:20} {rows[-1]['bd_rate_d1']:8} %", flush=True)
    summarize(rows, "bd_rate_d1", options.json)


if __name__ == "__main__":
    sys.exit(main())
