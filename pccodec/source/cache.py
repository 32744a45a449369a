"""What was read of a file, kept for the next reading of it."""

from __future__ import annotations


class RangeCache:
    """Pieces of a file, of which the oldest go when there are too many bytes.

    Args:
        limit: bytes kept; a piece of more than a quarter of that is not kept at all.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pieces: dict[int, bytes] = {}
        self._held = 0

    def add(self, start: int, data: bytes) -> None:
        """Keep the bytes that stand at ``start``, in place of pieces that they cover."""
        stop = start + len(data)
        covered = [at for at, piece in self._pieces.items() if start <= at and at + len(piece) <= stop]
        for at in covered:
            self._drop(at)
        # A piece at the same place that is longer holds these bytes already.
        if 4 * len(data) > self._limit or start in self._pieces:
            return
        self._pieces[start] = data
        self._held += len(data)
        while self._held > self._limit:
            self._drop(next(iter(self._pieces)))

    def held(self, start: int, stop: int) -> list[tuple[int, bytes]]:
        """What is kept of a range: positions and bytes in order of position; they may overlap."""
        found = []
        for at, piece in sorted(self._pieces.items()):
            part = piece[max(0, start - at) : max(0, stop - at)]
            if part:
                found.append((max(at, start), part))
        return found

    def _drop(self, at: int) -> None:
        self._held -= len(self._pieces.pop(at))


def missing(start: int, stop: int, held: list[tuple[int, bytes]], bridge: int) -> list[tuple[int, int]]:
    """Ranges of ``start … stop`` that ``held`` does not hold.

    Ranges that stand ``bridge`` bytes apart or less are one: those bytes again cost less than
    another request.
    """
    gaps: list[tuple[int, int]] = []
    at = start
    for position, piece in [*held, (stop, b"")]:
        if position > at:
            if gaps and at - gaps[-1][1] <= bridge:
                gaps[-1] = (gaps[-1][0], position)
            else:
                gaps.append((at, position))
        at = max(at, position + len(piece))
    return gaps
