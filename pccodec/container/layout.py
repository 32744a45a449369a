"""What a stream's header says, the order of its layers, and the limits on its claims."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pccodec.errors import StreamError

FORMAT_VERSION = 5

MAX_DEPTH = 21
"""Bits per axis that fit a 63-bit Morton code."""

RANK_LEVELS = (3, 2, 1)
"""Levels that may carry latent ranks, in stream order (strides 8, 4 and 2)."""

MAX_RANKS = 15

MIN_SHARED = 2
"""Finest shared level of a stream of tiles."""

BASE_LEVEL = 3
"""Finest level of the base layer. What is finer, or in tiles, is announced by a table behind it."""

CHECKED_LEVEL = 5
"""Coarsest level that has a check value; it covers all coarser ones, which take a few bytes together."""

MILESTONE_LEVELS = (5, 4, 3)
"""Levels whose geometry layers, when cut, are used up to a milestone; coarser ones only when whole."""

ALL_MILESTONES = 0x7F
"""A milestone behind each of the first seven octants."""

MAX_SURPLUS = 15

POINT_FLOOR = 1 << 18
POINTS_PER_BYTE = 1 << 9

TILE_FLOOR = 1 << 8
BYTES_PER_TILE = 1 << 9

NODE_FLOOR = 1 << 20
NODES_PER_BYTE = 1 << 8


def point_budget(size: int) -> int:
    """Points that a header may claim for ``size`` bytes of payload: 2**18 + 512 a byte.

    ``pack`` appends zero bytes where a cloud compresses better than that, below 0.016
    bits a point. So nobody takes a few forged bytes for a huge cloud.
    """
    return POINT_FLOOR + POINTS_PER_BYTE * size


def tile_budget(size: int) -> int:
    """Tiles that a stream of ``size`` bytes may have: 2**8 + one for 512 bytes.

    A tile takes time however little it holds. Of a prefix that is too short for its tiles, the layers in
    tiles are not used.
    """
    return TILE_FLOOR + size // BYTES_PER_TILE


def node_budget(size: int) -> int:
    """Nodes of a level that a decoder may predict from ``size`` bytes: 2**20 + 256 a byte.

    This holds while nothing but the header vouches for the counts. Once ``G_3`` is
    decoded, N_3 is verified and bounds the finer counts, and with the lengths of all layers
    known the points are within their ``point_budget``.
    """
    return NODE_FLOOR + NODES_PER_BYTE * size


@dataclass(frozen=True)
class LayerSpec:
    """One layer of the stream.

    Attributes:
        kind: ``"G"`` for a geometry layer, ``"R"`` for a latent rank.
        level: ``l`` of ``G_l`` or ``R_{l,k}``.
        rank: ``k`` of ``R_{l,k}``, from 1; 0 for geometry layers.
    """

    kind: str
    level: int
    rank: int = 0

    @property
    def name(self) -> str:
        """``G_2`` or ``R_{3,1}`` as plain text: ``G2``, ``R3.1``."""
        return f"G{self.level}" if self.kind == "G" else f"R{self.level}.{self.rank}"

    @property
    def stride(self) -> int:
        """Voxels along an edge of the nodes that this layer gives (G) or describes (R)."""
        return 1 << self.level


def layer_specs(depth: int, ranks: tuple[int, int, int]) -> list[LayerSpec]:
    """Layers in stream order: G_{D-1} … G_3, R_{3,·}, G_2, R_{2,·}, G_1, R_{1,·}, G_0.

    Args:
        depth: bits per axis, D ≥ 1. Levels at or above D have no layers.
        ranks: K_3, K_2, K_1, the number of ranks at strides 8, 4 and 2; zero where
            the level is not below ``depth``.
    """
    specs = []
    for level in range(depth - 1, -1, -1):
        specs.append(LayerSpec("G", level))
        if level in RANK_LEVELS:
            count = ranks[RANK_LEVELS.index(level)]
            specs += [LayerSpec("R", level, rank) for rank in range(1, count + 1)]
    return specs


@dataclass(frozen=True)
class TileLevels:
    """How a stream of tiles is cut.

    Attributes:
        tile: T, tiles are the nodes of ``X_T``, cubes of edge ``2**T`` voxels.
        shared: S, MIN_SHARED ≤ S ≤ T; the layers G_{D-1} … G_S are coded for the whole cloud, finer
            ones tile by tile.
    """

    tile: int
    shared: int


@dataclass(frozen=True)
class Header:
    """Everything that a decoder knows before the first payload byte.

    Attributes:
        depth: bits per axis, 1…21; ``X_depth`` is the root.
        counts: N_0, N_1, … up to N_3, or up to N_{depth-1} where depth < 4: the
            number of occupied nodes at strides 1, 2, 4 and 8.
        ranks: K_3, K_2, K_1, each 0…15: the ranks that are present.
        model_id: the first 8 bytes of the model's SHA-256.
        origin: the point of voxel (0, 0, 0); integers where ``is_integer``.
        scale: edge of a voxel in the cloud's unit; 1 where ``is_integer``.
        is_integer: the cloud's coordinates are integers and come back as such.
        tiles: levels of the tiles, None where there are none.
        milestones: for levels 5, 4 and 3 a mask 0…127: bit ``j`` is set where a decoder may
            reconstruct from the first ``j + 1`` octants of that geometry layer. Between
            milestones quality need not rise with every byte.
        surplus: 32nds of N_0, 0…15, that a cloud predicted from stride 8 or coarser nodes
            has more than N_0 points.

    Raises:
        StreamError: from the constructor, if the values contradict each other or
            the limits of the format.
    """

    depth: int
    counts: tuple[int, ...]
    ranks: tuple[int, int, int]
    model_id: bytes
    origin: tuple[float, float, float] = (0, 0, 0)
    scale: float = 1.0
    is_integer: bool = True
    tiles: TileLevels | None = None
    milestones: tuple[int, int, int] = (0, 0, 0)
    surplus: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.depth <= MAX_DEPTH:
            raise StreamError(f"bit depth {self.depth} is not in 1…{MAX_DEPTH}")
        if len(self.counts) != min(4, self.depth):
            raise StreamError("the counts do not fit the bit depth")
        above = self.counts[-1]
        if not 1 <= above <= 8 ** (self.depth - len(self.counts) + 1):
            raise StreamError(f"{above} nodes do not fit level {len(self.counts) - 1}")
        for level, count in reversed(list(enumerate(self.counts))):
            if not above <= count <= min(8 * above, 8 ** (self.depth - level)):
                raise StreamError(f"{count} nodes at level {level} cannot stand under {above}")
            above = count
        for level, count in zip(RANK_LEVELS, self.ranks, strict=True):
            if not 0 <= count <= (MAX_RANKS if level < self.depth else 0):
                raise StreamError(f"{count} ranks at level {level} of depth {self.depth}")
        if len(self.model_id) != 8:
            raise StreamError("a model id has 8 bytes")
        if not (all(math.isfinite(value) for value in self.origin) and 0 < self.scale < math.inf):
            raise StreamError("the grid's origin or scale is not finite")
        if self.is_integer and self.scale != 1:
            raise StreamError("an integer grid has scale 1")
        if self.tiles and not MIN_SHARED <= self.tiles.shared <= self.tiles.tile <= self.depth:
            raise StreamError(
                f"tiles of level {self.tiles.tile} with {self.tiles.shared} shared at depth {self.depth}"
            )
        if self.tiles and any(self.ranks):
            raise StreamError("a stream of tiles has no ranks")
        for level, mask in zip(MILESTONE_LEVELS, self.milestones, strict=True):
            if not 0 <= mask <= (ALL_MILESTONES if level < self.depth else 0):
                raise StreamError(f"milestones {mask} at level {level} of depth {self.depth}")
        if not 0 <= self.surplus <= MAX_SURPLUS:
            raise StreamError(f"a surplus of {self.surplus} is not in 0…{MAX_SURPLUS}")

    def milestones_at(self, level: int) -> int | None:
        """Milestones of ``G_level``, none (0) above level 5; None where every byte counts."""
        if level < MILESTONE_LEVELS[-1]:
            return None
        return dict(zip(MILESTONE_LEVELS, self.milestones, strict=True)).get(level, 0)

    @property
    def layers(self) -> list[LayerSpec]:
        """The layers of this stream, in order."""
        return layer_specs(self.depth, self.ranks)

    @property
    def announced(self) -> int:
        """How many layers the header itself announces: the base layer, or what of it tiles share."""
        return max(0, self.depth - max(BASE_LEVEL, self.tiles.shared if self.tiles else 0))

    @property
    def coarsest_checked(self) -> int:
        """The coarsest level that has a check value. In tiles all have one, and the last shared level."""
        return min(max(CHECKED_LEVEL, self.tiles.shared if self.tiles else 0), self.depth - 1)

    @property
    def checked(self) -> range:
        """The levels whose geometry layers have a check value, coarse to fine."""
        return range(self.coarsest_checked, -1, -1)

    def unverified(self, level: int) -> list[int]:
        """Levels coarser than ``level`` that no check has told right before ``G_level`` is decoded."""
        coarsest = self.coarsest_checked
        return [above for above in range(self.depth - 1, level, -1) if level >= coarsest < above]

    def max_nodes(self, level: int) -> int:
        """Most nodes that ``X_level`` can have: N_l, or at coarser levels min(N_3, 8**(D-l))."""
        finest_bound = self.counts[min(level, len(self.counts) - 1)]
        return min(finest_bound, 8 ** (self.depth - level))

    def max_length(self, spec: LayerSpec) -> int:
        """Most bytes that a layer can take: 16 a node that carries its symbols, and 64.

        A symbol costs at most 16 bits (frequencies are at least 2**-16); a node has 8
        child bits, or one rank symbol with its escapes. A directory takes 16 bytes a tile or fewer.
        """
        nodes = self.max_nodes(spec.level + 1 if spec.kind == "G" else spec.level)
        if self.in_tiles(spec):
            assert self.tiles
            nodes += self.max_nodes(self.tiles.tile)
        return 16 * nodes + 64

    def in_tiles(self, spec: LayerSpec) -> bool:
        """Whether a layer is coded tile by tile."""
        return self.tiles is not None and spec.level < self.tiles.shared
