"""Validation: a short rate-distortion curve on held-out blocks, decoded as the codec decodes."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch

from pccodec.evaluation.metrics import Reference
from pccodec.model.analysis import AnalysisNetwork
from pccodec.model.config import LATENT_LEVELS
from pccodec.model.latents import latent_ranks
from pccodec.model.synthesis import SynthesisNetwork
from pccodec.model.upsampling import Known, Latent, Upsampler
from pccodec.training.autoencoder import Autoencoder
from pccodec.training.batches import Batch, make_batch
from pccodec.training.objective import LatentRate
from pccodec.voxels import morton


@dataclass(frozen=True)
class ValidationPoint:
    """Mean over the held-out blocks of one truncation state.

    Attributes:
        finest: finest exact level.
        ranks: ranks that arrived at that level.
        rank_bpp: estimated bits of these ranks per voxel.
        d1_psnr: D1 PSNR in dB with peak 1023.
    """

    finest: int
    ranks: int
    rank_bpp: float
    d1_psnr: float


def _known(batch: Batch, finest: int, latents: dict[int, np.ndarray], ranks: int) -> Known:
    levels = range(finest, batch.tree.depth + 1)
    arrived = {}
    for level, symbols in latents.items():
        if level >= finest:
            count = ranks if level == finest else symbols.shape[1]
            arrived[level] = Latent(symbols, np.full(len(symbols), count, dtype=np.int64))
    return Known(
        {level: batch.tree.codes[level] for level in levels},
        {level: batch.maps[level] for level in levels},
        {level: int(count) for level, count in enumerate(batch.counts[0])},
        arrived,
    )


def _rank_bits(rate: LatentRate, symbols: np.ndarray, level: int) -> list[float]:
    """Bits of the first 1…K ranks together."""
    y = torch.from_numpy(symbols.astype(np.float32)).to(rate.device)
    found: list[float] = rate(y, level).sum(0).cumsum(0).tolist()
    return found


def validation_curve(
    model: Autoencoder, rate: LatentRate, blocks: list[np.ndarray]
) -> list[dict[str, float]]:
    """Rows of :class:`ValidationPoint` for every number of ranks at levels 3, 2 and 1.

    Args:
        model: the autoencoder; the integer networks are made of it.
        rate: its rate model.
        blocks: sorted Morton codes of held-out blocks.
    """
    tensors = model.tensors()
    synthesis = SynthesisNetwork(tensors, model.config)
    analysis = AnalysisNetwork(tensors, model.config)
    upsampler = Upsampler(synthesis)
    found: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for block in blocks:
        batch = make_batch([block])
        reference = Reference(morton.decode(block), peak=1023.0)
        with torch.no_grad():
            latents = latent_ranks(analysis, synthesis, batch.tree, batch.maps, model.config.ranks)
            bits = {level: _rank_bits(rate, symbols, level) for level, symbols in latents.items()}
            for level in LATENT_LEVELS:
                for ranks in range(model.config.ranks[level] + 1):
                    voxels = upsampler.voxels(_known(batch, level, latents, ranks))
                    psnr = reference.compare(morton.decode(voxels)).d1_psnr
                    spent = bits[level][ranks - 1] / batch.points if ranks else 0.0
                    found.setdefault((level, ranks), []).append((spent, psnr))
    rows = []
    for (level, ranks), values in found.items():
        spent, psnr = np.mean(values, axis=0)
        rows.append(asdict(ValidationPoint(level, ranks, round(float(spent), 4), round(float(psnr), 3))))
    return rows
