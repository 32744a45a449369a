"""Streams from and to files, standard input and standard output."""

from __future__ import annotations

import sys

import click

from pccodec.errors import InputError


def read_stream(path: str) -> bytes:
    """All bytes of a file, or of standard input for ``"-"``.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        if path == "-":
            return sys.stdin.buffer.read()
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error


def write_stream(path: str, data: bytes) -> None:
    """Write a file that appears complete or not at all, or standard output for ``"-"``.

    Raises:
        InputError: the file cannot be written.
    """
    refuse_terminal(path)
    from pccodec.io import atomic_write

    with atomic_write(path) as file:
        file.write(data)


def refuse_terminal(path: str) -> None:
    """Raise ``click.UsageError`` if binary data would be written to a terminal."""
    if path == "-" and sys.stdout.isatty():
        raise click.UsageError("binary data are not written to a terminal: name a file or use a pipe")
