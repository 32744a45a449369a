"""Files that appear complete or not at all."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pccodec.errors import InputError


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open ``path`` for binary writing; the file appears under its name only when the block ends well.

    The bytes go to a temporary file in the same directory, ``.NAME.HEX.part`` with twelve
    hexadecimal digits, which replaces ``path`` in one step at the end. If the block raises, the
    temporary file is removed and an older file at ``path`` stays as it was; only a process that is
    killed at once leaves the temporary file behind. ``"-"`` is standard output; that, pipes and
    devices cannot be replaced, so they are written directly.

    Yields:
        A binary stream, seekable unless the target is a pipe or device.

    Raises:
        InputError: the target cannot be written (no such directory, no space, …).
    """
    name, target = "standard output" if os.fspath(path) == "-" else path, Path(path)
    try:
        if os.fspath(path) == "-":
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
            return
        if target.exists() and not target.is_file():
            with target.open("wb") as stream:
                yield stream
            return
        # A link is followed, so that replacing the file does not replace the link.
        with _temporary_beside(target.resolve()) as stream:
            yield stream
    except BrokenPipeError:
        raise
    except OSError as error:
        raise InputError(f"cannot write {name}: {error.strerror or error}") from error


@contextmanager
def _temporary_beside(target: Path) -> Iterator[BinaryIO]:
    """A new file in the directory of ``target`` that becomes ``target``, or is removed on failure."""
    # Opened by a plain open, not tempfile, so that the umask sets its permissions as for any new file.
    temporary = target.with_name(f".{target.name[:200]}.{secrets.token_hex(6)}.part")
    stream = temporary.open("x+b")
    try:
        with stream:
            yield stream
        if target.exists():
            temporary.chmod(target.stat().st_mode & 0o7777)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
