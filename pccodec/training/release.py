"""From a checkpoint to a model file: averaged weights, counted rank tables, the geometry network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch

from pccodec.entropy.ranks import CONTEXTS, SYMBOLS, contexts, tables_from_counts
from pccodec.model import store
from pccodec.model.config import LATENT_LEVELS, LIMIT, ModelConfig
from pccodec.model.latents import latent_ranks
from pccodec.model.store import Model
from pccodec.model.stream import TENSOR_PREFIX
from pccodec.training.autoencoder import Autoencoder
from pccodec.training.batches import make_batch


def count_ranks(neighbors: np.ndarray, symbols: np.ndarray) -> np.ndarray:
    """How often each symbol stands in each context of each rank, float64 (K, CONTEXTS, SYMBOLS).

    Args:
        neighbors: int32 (n, 27), the neighbour map.
        symbols: int8 (n, K).
    """
    counts = np.zeros((symbols.shape[1], CONTEXTS, SYMBOLS))
    for rank, count in enumerate(counts):
        rows = contexts(neighbors, symbols[:, :rank])
        np.add.at(count, (rows, symbols[:, rank].astype(np.int64) + LIMIT), 1)
    return counts


def count_rank_tables(model: Model, blocks: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
    """Frequency tables of all ranks, counted on training blocks.

    Args:
        model: the model; its own tables, if any, are not used.
        blocks: sorted Morton codes, uint64, of blocks that are not held out.

    Returns:
        ``ranks.L``: uint32 (K, CONTEXTS, SYMBOLS) for each latent level.
    """
    ranks = model.config.ranks
    counts = {level: np.zeros((ranks[level], CONTEXTS, SYMBOLS)) for level in LATENT_LEVELS}
    for block in blocks:
        batch = make_batch([block])
        found = latent_ranks(model.analysis, model.synthesis, batch.tree, batch.maps, ranks)
        for level, symbols in found.items():
            counts[level] += count_ranks(batch.maps[level], symbols)
    return {f"ranks.{level}": tables_from_counts(table) for level, table in counts.items()}


def release(
    checkpoint: Path,
    given: Mapping[str, np.ndarray],
    blocks: Iterable[np.ndarray],
    file: Path,
) -> bytes:
    """Write the model file of a training checkpoint and return its id.

    Args:
        checkpoint: ``checkpoint.pt`` of a run.
        given: tensors of an existing model. Its geometry network is taken over; of a run that trained only
            a part of the autoencoder, all but that part.
        blocks: training blocks on which the rank tables are counted.
        file: ``NAME.safetensors`` to write.
    """
    state = torch.load(checkpoint, weights_only=True)
    config = ModelConfig.from_json(state["config"]["model"])
    averaged = Autoencoder(config)
    averaged.load_state_dict(state["average"])
    only = tuple(map(tensor_prefix, state["config"]["only"]))
    trained = {name: value for name, value in averaged.tensors().items() if name.startswith(only or "")}
    kept = ("",) if only else ("geometry.",)
    tensors = {name: value for name, value in given.items() if name.startswith(kept)} | trained
    model = Model(file.stem, b"", config, tensors)
    return store.save(file, config, {**tensors, **count_rank_tables(model, blocks)})


def tensor_prefix(parameter: str) -> str:
    """How the names of a model file's tensors begin whose parameters' names begin so."""
    if parameter.startswith("draft."):
        return f"{TENSOR_PREFIX}{parameter}"
    return parameter.replace("syntheses.", TENSOR_PREFIX).replace("analyses.", "analysis.")


def archive(checkpoint: Path, file: Path) -> None:
    """A checkpoint in a third of its size, to be kept with the model.

    The averaged weights stand in for the current ones, in fp16; the optimizer's moments are bf16.
    """
    state = torch.load(checkpoint, weights_only=True)
    small = {
        name: value.to(torch.float16) if value.is_floating_point() else value
        for name, value in state["average"].items()
    }
    moments = {
        index: {name: value.to(torch.bfloat16) if value.ndim else value for name, value in parameter.items()}
        for index, parameter in state["optimizer"]["state"].items()
    }
    state["model"] = state["average"] = small
    state["optimizer"] = {**state["optimizer"], "state": moments}
    torch.save(state, file)
