"""``python -m pccodec`` is the command line."""

from __future__ import annotations

from pccodec.cli import main

main()
