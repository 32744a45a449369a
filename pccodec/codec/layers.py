"""Decoding of one layer: what its bytes add to what is known."""

from __future__ import annotations

import numpy as np

from pccodec.codec.checks import layer_check
from pccodec.codec.cut_layer import expected_beside, layer_decoder
from pccodec.entropy.geometry import LevelContext, LevelDecoder
from pccodec.entropy.ranks import RankCoder
from pccodec.errors import DamagedError
from pccodec.model.store import Model
from pccodec.model.upsampling import Known, Latent, Partial
from pccodec.sparse.neighbors import child_map
from pccodec.voxels import octree


def decode_ranks(known: Known, rank: int, data: bytes, complete: bool, model: Model) -> None:
    """Add rank ``rank`` (from 1) of the finest known level, or its beginning.

    Raises:
        DamagedError: the model has no such rank.
    """
    level = known.finest
    tables = model.rank_tables.get(level)
    if tables is None or rank > len(tables):
        raise DamagedError("the model has no such rank")
    before = known.latent(level)
    decoded = RankCoder(tables).decode(known.maps[level], before.symbols, data, complete)
    column = np.zeros((len(before.active), 1), dtype=np.int8)
    column[: len(decoded), 0] = decoded
    arrived = np.arange(len(before.active)) < len(decoded)
    known.latents[level] = Latent(np.hstack([before.symbols, column]), before.active + arrived)


def next_context(known: Known) -> LevelContext:
    """What is known before the geometry layer of the level below the finest known one."""
    above = known.finest
    symbols = known.latent(above).symbols
    return LevelContext(known.maps[above], above - 1, known.counts, known.codes[above], symbols)


def geometry_decoder(known: Known, model: Model, milestones: int | None) -> LevelDecoder:
    """Decoder of the layer of the level below the finest known one, as :func:`decode_geometry` takes it."""
    return layer_decoder(model.geometry, next_context(known), milestones)


def decode_geometry(
    known: Known,
    data: bytes,
    complete: bool,
    model: Model,
    *,
    check: int | None,
    coarsest: int,
    count: int | None,
    most: int,
    milestones: int | None,
    begun: LevelDecoder | None = None,
    expect: bool = True,
) -> None:
    """Add the level below the finest known one, or what the beginning of its layer tells of it.

    Args:
        known: what is known; changed in place.
        data: the layer's bytes, or its beginning.
        complete: whether ``data`` is the whole layer.
        model: the stream's model.
        check: check value that a complete layer must have; None if it has none.
        coarsest: the coarsest level that has one (``Header.coarsest_checked``).
        count: nodes that a complete layer must give, if known.
        most: most nodes that it may give.
        milestones: mask of the octants behind which a beginning is used
            (``Header.milestones_at``); None: all of it is.
        begun: the layer's :func:`geometry_decoder`, if more bytes will come or earlier ones did;
            without it nothing is kept of a layer that is cut.
        expect: whether what the beginning of a layer makes expect is asked for, besides what it gives.

    Raises:
        DamagedError: a complete layer fails its checks; ``known`` is as it was.
    """
    level = known.finest - 1
    decoder = begun or geometry_decoder(known, model, milestones)
    occupancy, determined = decoder.decode(data, complete)
    if not complete:
        if milestones is not None:
            reached = np.uint8((1 << decoder.milestone.octants) - 1)
            occupancy, determined = occupancy & reached, np.full_like(determined, reached)
        if determined.any():
            expected = expected_beside(decoder, known.counts) if expect else None
            known.partial = Partial(occupancy, determined, expected, decoder.milestone.octants)
        return
    # What decoding took need not stand beside what comes of it.
    del decoder
    found = int(octree.POPCOUNT[occupancy].sum(dtype=np.int64))
    if (occupancy == 0).any() or found > most or found != (found if count is None else count):
        raise DamagedError("it does not give the number of nodes that the header states")
    codes = octree.expand(known.codes[level + 1], occupancy)
    symbols = known.latent(level + 1).symbols
    if check not in (None, layer_check(level, coarsest, codes, symbols, occupancy)):
        raise DamagedError("its check value does not match")
    known.codes[level] = codes
    known.counts[level] = found
    if level:
        known.maps[level] = child_map(known.maps[level + 1], occupancy)


def forget(known: Known, levels: list[int]) -> None:
    """Give up levels that the check of a damaged layer covers too: any of them may be wrong."""
    for level in levels:
        for facts in (known.codes, known.maps, known.counts):
            facts.pop(level, None)
