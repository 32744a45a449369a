"""The stream container: header, layer order, cuts and checks. Needs the standard library only."""

from __future__ import annotations

from pccodec.container.header import MAX_HEADER, pack_header, pack_table
from pccodec.container.layout import (
    ALL_MILESTONES,
    FORMAT_VERSION,
    MAX_SURPLUS,
    MILESTONE_LEVELS,
    MIN_SHARED,
    Header,
    LayerSpec,
    TileLevels,
    layer_specs,
    point_budget,
)
from pccodec.container.stream import (
    Layer,
    Stream,
    level_check,
    pack,
    parse,
    parse_source,
    prefix_size,
    truncate,
)

__all__ = [
    "ALL_MILESTONES",
    "FORMAT_VERSION",
    "MAX_HEADER",
    "MAX_SURPLUS",
    "MILESTONE_LEVELS",
    "MIN_SHARED",
    "Header",
    "Layer",
    "LayerSpec",
    "Stream",
    "TileLevels",
    "layer_specs",
    "level_check",
    "pack",
    "pack_header",
    "pack_table",
    "parse",
    "parse_source",
    "point_budget",
    "prefix_size",
    "truncate",
]
