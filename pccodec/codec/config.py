"""The choices of an encoder."""

from __future__ import annotations

from dataclasses import dataclass

from pccodec.errors import InputError


@dataclass(frozen=True)
class EncodeConfig:
    """How a cloud is encoded: the options of ``encode``, which says what they mean."""

    voxel_size: float | None = None
    bits: int | None = None
    model: str | None = None
    ranks: tuple[int, int, int] | None = None
    tile_points: int | None = 1 << 20
    effort: int = 2

    def makes_tiles(self, voxels: int) -> bool:
        """Whether a cloud of so many voxels is coded in tiles."""
        return self.tile_points is not None and voxels > self.tile_points

    @property
    def most_in_tile(self) -> int:
        """Most voxels of a tile.

        An eighth of what takes no tiles: a region also reads what its tiles hold beside it
        (``docs/results/large.json`` has how much).
        """
        assert self.tile_points is not None
        return max(1, self.tile_points // 8)

    def refuse_ranks_in_tiles(self) -> None:
        """Raise InputError if ranks are asked for; the cloud has more than ``tile_points`` voxels."""
        if self.ranks is not None and any(self.ranks):
            raise InputError(
                f"ranks are not written in tiles: choose none, or tiles beyond {self.tile_points} points"
            )
