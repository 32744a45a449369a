"""What the layers of a stream without tiles told so far, while its bytes arrive."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np

from pccodec import container
from pccodec.codec.correction import corrected
from pccodec.codec.layers import decode_geometry, decode_ranks, forget, geometry_decoder
from pccodec.codec.progress import Progress
from pccodec.codec.reconstruction import reconstruct
from pccodec.container import Layer, LayerSpec, Stream
from pccodec.entropy.geometry import LevelDecoder
from pccodec.errors import DamagedError
from pccodec.model import store
from pccodec.model.upsampling import Known, Upsampler
from pccodec.sparse.neighbors import root_map
from pccodec.voxels.grid import Grid

logger = logging.getLogger(__name__)


class LayerProgress(Progress):
    """Layer after layer is added to what is known; the layer that is cut goes on where it ended.

    Raises:
        ModelError: the model that the stream needs is missing.
    """

    def __init__(self, stream: Stream, strict: bool) -> None:
        super().__init__(stream, strict)
        self._model = store.load_by_id(self.header.model_id)
        depth = self.header.depth
        counts = {**dict(enumerate(self.header.counts)), depth: 1}
        root = np.zeros(1, dtype=np.uint64)
        self._known = Known({depth: root}, {depth: root_map()}, counts, surplus=self.header.surplus)
        self._done = 0
        self._begun: LevelDecoder | None = None
        self._upsampler: Upsampler | None = None
        self._voxels: np.ndarray | None = None
        self._damage: DamagedError | None = None

    @property
    def decoded(self) -> tuple[LayerSpec, ...]:
        return tuple(layer.spec for layer in self._stream.layers[: self._done])

    def advance(self, data: bytearray) -> None:
        self._raise_if_strict()
        while (layer := self._next(data)) is not None and layer.end <= len(data):
            self._add(self._known, layer, data, self._begun)
            self._begun = None

    def _next(self, data: bytearray) -> Layer | None:
        """The layer that comes next; None if there is none, or ``data`` does not tell where it lies."""
        if self._damage is None and self._stream.size is None and self._done == len(self._stream.layers):
            self._stream = container.parse(data)
            if self._stream.damage is not None:
                self._stop(self._known, "the table behind the base layer", DamagedError(self._stream.damage))
        if self._damage is not None or self._done == len(self._stream.layers):
            return None
        return self._stream.layers[self._done]

    def points(self, data: bytearray, last: bool, refresh: bool) -> np.ndarray:
        self._raise_if_strict()
        before = None if refresh else self._voxels
        known = replace(self._known, latents=dict(self._known.latents))
        layer = self._next(data)
        if layer is not None and len(data) > layer.offset:
            if layer.spec.kind == "G" and self._begun is None and not last:
                self._begun = geometry_decoder(
                    known, self._model, self.header.milestones_at(layer.spec.level)
                )
            self._add(known, layer, data, None if last else self._begun, expect=before is None)
        header = self.header
        grid = Grid(header.origin, header.scale, header.depth, header.is_integer)
        if before is not None:
            return grid.points(corrected(before, known))
        # Until G_3 and the lengths of all layers are known nothing but the header vouches for the counts.
        if known.finest >= len(self.header.counts) or self.size is None:
            known.budget = container.parse(data).node_budget(known.finest)
        if last:
            self._begun = None
        elif self._upsampler is None:
            self._upsampler = Upsampler(self._model.synthesis, keep=True)
        self._voxels = reconstruct(known, self._model, self._upsampler)
        return grid.points(self._voxels)

    def _add(
        self, known: Known, layer: Layer, data: bytearray, begun: LevelDecoder | None, expect: bool = True
    ) -> None:
        """Add a layer, or its beginning, to ``known``."""
        arrived = bytes(data[layer.offset : layer.end])
        complete, level = len(arrived) == layer.length, layer.spec.level
        try:
            if layer.spec.kind == "R":
                decode_ranks(known, layer.spec.rank, arrived, complete, self._model)
            else:
                decode_geometry(
                    known,
                    arrived,
                    complete,
                    self._model,
                    check=layer.check,
                    coarsest=self.header.coarsest_checked,
                    count=known.counts.get(level),
                    most=self.header.max_nodes(level),
                    milestones=self.header.milestones_at(level),
                    begun=begun,
                    expect=expect,
                )
        except DamagedError as error:
            unverified = self.header.unverified(level)
            for each in (known, self._known):
                forget(each, unverified)
            self._done -= len(unverified)
            self._stop(known, f"layer {layer.spec.name}", error)
            return
        self._done += complete

    def _stop(self, known: Known, where: str, error: DamagedError) -> None:
        """Stay with the finest intact level."""
        # Whether a rank or the geometry is wrong cannot be told: the check covers both.
        for each in (known, self._known):
            each.latents.pop(known.finest, None)
        while self._done and self._stream.layers[self._done - 1].spec.kind == "R":
            self._done -= 1
        message = f"the stream is damaged in {where} ({error})"
        self._damage = DamagedError(message)
        self._damage.__cause__ = error
        self._raise_if_strict()
        logger.warning("%s; decoded up to stride %d", message, 1 << known.finest)

    def _raise_if_strict(self) -> None:
        if self._strict and self._damage is not None:
            raise self._damage
