"""The training loop: draw a batch and a truncation state, step, log, save; resume where it stopped."""

from __future__ import annotations

import json
import math
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pccodec.io import atomic_write
from pccodec.masklayer import MaskedOptimizer
from pccodec.model.config import LATENT_LEVELS
from pccodec.model.occupancy import OccupancyNetwork
from pccodec.training.autoencoder import Autoencoder, LevelAnalysis, LevelSynthesis
from pccodec.training.block_pool import BlockPool
from pccodec.training.config import TrainConfig
from pccodec.training.objective import LatentRate, LossConfig, run_step
from pccodec.training.shapes import BlockCache
from pccodec.training.validation import validation_curve

CHECKPOINT_SECONDS = 240.0
LOG_STEPS = 50


def rank_parameters(
    analysis: LevelAnalysis, synthesis: LevelSynthesis, scale: Tensor
) -> list[tuple[Tensor, int]]:
    """The parameters of a level that belong to single ranks, and their axis of ranks.

    Args:
        analysis, synthesis: the level's networks.
        scale: of the rate model, (K,).
    """
    makes = analysis.latent
    assert makes.bias is not None
    return [
        (makes.weight, 0),
        (makes.bias, 0),
        (synthesis.latent.weight, 1),
        (synthesis.sent.weight, 1),
        (scale, 0),
    ]


def of_ranks(parameter: str) -> bool:
    """Whether a parameter of the autoencoder, by its name, is without effect in streams without ranks."""
    return parameter.startswith("analyses.") or parameter.endswith((".latent.weight", ".sent.weight"))


def _model_of_draft(parameter: str) -> str:
    """What a parameter of the draft network may begin as, by its name."""
    network = 2 if parameter.startswith("draft.descend.") else 1
    return parameter.replace("draft.", f"syntheses.{network}.", 1)


class Trainer:
    """Everything that a checkpoint holds, and the steps that change it.

    Args:
        config: the run.
        cache: training blocks; ``held_out`` blocks of meshes never trained on.
        folder: where ``checkpoint.pt`` and ``log.jsonl`` are written.
        geometry: the geometry layers' network, for states that are cut in the base layer.
    """

    def __init__(
        self,
        config: TrainConfig,
        cache: BlockCache,
        held_out: BlockCache,
        folder: Path,
        geometry: OccupancyNetwork | None = None,
    ) -> None:
        torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        self.config, self.held_out, self.folder = config, held_out, folder
        self.device = torch.device(config.device)
        self.pool = BlockPool(cache, self.device)
        self.geometry = geometry
        self.states = replace(config.states, none=0.0) if config.only_ranks else config.states
        self.loss = LossConfig()
        self.model = Autoencoder(config.model, self.states.prefixes(config.model.ranks)).to(self.device)
        for level in LATENT_LEVELS:
            mask = self.model.synthesis(level).mask
            mask.rescale = config.rescale
        for name, parameter in self.model.named_parameters():
            wanted = of_ranks(name) if config.only_ranks else name.startswith(config.only or "")
            parameter.requires_grad_(wanted)
        self.rate = LatentRate(config.model).to(self.device)
        learned = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.parameters = [*learned, *self.rate.parameters()]
        # Scales must follow the latents at once: while they lag, rates are wrong and ranks die.
        groups = [
            {"params": learned, "speed": 1.0},
            {"params": list(self.rate.parameters()), "speed": 8.0},
        ]
        self.optimizer = torch.optim.Adam(groups, lr=config.learning_rate, betas=(0.9, 0.99))
        by_level = {
            str(level): rank_parameters(
                self.model.analysis(level), self.model.synthesis(level), self.rate.log_scale[str(level)]
            )
            for level in LATENT_LEVELS
        }
        self.masked = MaskedOptimizer(self.optimizer, by_level)
        self.average = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.steps, self.seconds = 0, 0.0
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def progress(self) -> float:
        """Share of the schedule that is done, 0…1."""
        return min(1.0, self.seconds / (60.0 * self.config.minutes))

    def save(self) -> None:
        """Write the checkpoint, atomically."""
        state = {
            "config": self.config.to_json(),
            "model": self.model.state_dict(),
            "average": self.average,
            "rate": self.rate.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "steps": self.steps,
            "seconds": self.seconds,
        }
        with atomic_write(self.folder / "checkpoint.pt") as file:
            torch.save(state, file)

    def restore(self, file: Path) -> None:
        """Go on from a checkpoint, full or archived (:func:`pccodec.training.release.archive`)."""
        state: dict[str, Any] = torch.load(file, weights_only=True, map_location=self.device)
        self.model.load_state_dict(state["model"])
        self.rate.load_state_dict(state["rate"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average = {
            name: value.float() if value.is_floating_point() else value
            for name, value in state["average"].items()
        }
        self.steps, self.seconds = state["steps"], state["seconds"]

    def start_from(self, file: Path) -> None:
        """Take the averaged weights of another run, as far as they fit, and begin a schedule of its own.

        Of more latent ranks the first ones are taken; residual blocks that are new begin as the identity.
        A draft network that is new begins with what the network of level 1 inherits, sees and predicts.
        """
        state: dict[str, Any] = torch.load(file, weights_only=True, map_location=self.device)
        for module, given in ((self.model, state["average"]), (self.rate, state["rate"])):
            own = module.state_dict()
            for name, value in own.items():
                name_given = name if name in given else _model_of_draft(name)
                if name_given in given:
                    part = given[name_given][tuple(slice(size) for size in value.shape)]
                    own[name] = part.to(value.dtype) if part.shape == value.shape else value
            module.load_state_dict(own)
        self.average = {name: value.clone() for name, value in self.model.state_dict().items()}

    def _learning_rate(self) -> float:
        warm = min(1.0, (self.steps + 1) / self.config.warmup_steps)
        cosine = 0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * self.progress))
        return self.config.learning_rate * warm * cosine

    def _rate_factor(self) -> float:
        begin, end = self.config.rate_ramp
        share = min(1.0, max(0.0, (self.steps - begin) / (end - begin)))
        # Geometric: the rate weight must not jump while the ranks are still finding their use.
        return self.config.rate_scale * self.config.rate_start ** (1.0 - share)

    def step(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """One training step; returns what is logged, numbers on the device."""
        begin = time.perf_counter()
        config = self.config
        if self.steps < config.float_steps:
            self.model.watch(config.only)
        elif self.steps == config.float_steps:
            self.model.fit()
        batch = self.pool.draw(config.batch_blocks, config.batch_voxels, rng)
        state = self.states.draw(config.model.ranks, rng)
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate() * group["speed"]
        outcome = run_step(
            self.model,
            self.rate,
            batch,
            state,
            self.loss,
            self._rate_factor(),
            noisy=self.steps < config.noise_steps,
            geometry=self.geometry,
        )
        self.optimizer.zero_grad()
        outcome.loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 4.0)
        if config.masked_optimizer:
            self.masked.step({str(level): state.active[level] for level in LATENT_LEVELS})
        else:
            self.optimizer.step()
        self._update_average()
        self.steps += 1
        self.seconds += time.perf_counter() - begin
        values = {"loss": outcome.loss.detach()}
        for level, bits in outcome.child_bits.items():
            arrived = state.active.get(level, 0)
            ranks = self.config.model.ranks.get(level, 0)
            kind = "exact" if level >= state.finest else "predicted"
            suffix = {0: "none", ranks: "all"}.get(arrived, "some") if kind == "exact" else ""
            values[f"child{level}_{kind}{suffix}"] = bits
        for level, ranks_bits in outcome.rank_bits.items():
            values |= {f"rank{level}_{k + 1}": bits for k, bits in enumerate(ranks_bits)}
        return values

    def _update_average(self) -> None:
        decay = min(self.config.ema, self.steps / (self.steps + 10.0))
        averages, values = [], []
        for name, value in self.model.state_dict().items():
            if value.is_floating_point():
                averages.append(self.average[name])
                values.append(value)
            else:
                self.average[name].copy_(value)
        torch._foreach_lerp_(averages, values, 1.0 - decay)

    def validate(self, blocks: int = 6) -> dict[str, Any]:
        """Rate-distortion curve on held-out blocks with the averaged weights."""
        averaged = Autoencoder(self.config.model)
        averaged.load_state_dict(self.average)
        held_out = [self.held_out[index] for index in range(min(blocks, len(self.held_out)))]
        return {"step": self.steps, "validation": validation_curve(averaged.eval(), self.rate, held_out)}

    def run(self) -> Iterator[dict[str, Any]]:
        """Train to the end of the schedule; yields a row of means every 50 steps, and validations."""
        rng = np.random.default_rng([self.config.seed, self.steps])
        window: defaultdict[str, list[Tensor]] = defaultdict(list)
        saved = time.perf_counter()
        with (self.folder / "log.jsonl").open("a") as log:
            while self.progress < 1.0:
                for name, value in self.step(rng).items():
                    window[name].append(value)
                if self.steps % LOG_STEPS == 0:
                    row: dict[str, Any] = {
                        "step": self.steps,
                        "seconds": round(self.seconds, 1),
                        "rate_factor": round(self._rate_factor(), 4),
                        **{
                            name: round(float(torch.stack(values).mean()), 4)
                            for name, values in sorted(window.items())
                        },
                    }
                    window.clear()
                    log.write(json.dumps(row) + "\n")
                    log.flush()
                    yield row
                if self.steps % self.config.validation_steps == 0:
                    row = self.validate()
                    log.write(json.dumps(row) + "\n")
                    log.flush()
                    yield row
                if time.perf_counter() - saved > CHECKPOINT_SECONDS:
                    self.save()
                    saved = time.perf_counter()
        self.save()
