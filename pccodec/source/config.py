"""Settings of what is read over networks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TransferConfig:
    """How byte ranges are fetched.

    Attributes:
        first: bytes of the first request, which hold any stream's header.
        timeout: seconds without an answer, or without a byte of it, after which it is given up.
        retries: how often in one reading a range is resumed after the connection broke.
        whole_limit: bytes up to which a file is taken whole where a server ignores byte ranges.
        cache: bytes of what was fetched that are kept.
        bridge: bytes that are fetched again to save a request.
    """

    first: int = 1 << 12
    timeout: float = 30.0
    retries: int = 2
    whole_limit: int = 1 << 26
    cache: int = 1 << 24
    bridge: int = 1 << 12
