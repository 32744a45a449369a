"""Exceptions of pccodec. Every one carries the exit code of the command line."""

from __future__ import annotations


class PccodecError(Exception):
    """Root of all errors that pccodec raises on purpose; the message is one clear line."""

    exit_code = 1


class InputError(PccodecError):
    """The input cloud or file cannot be used: empty, NaN, unknown format, too large."""

    exit_code = 3


class StreamError(PccodecError):
    """The data is not a pccodec stream, or its header is damaged or too short."""

    exit_code = 4


class CutHeaderError(StreamError):
    """The data ends within the header of a stream: with more bytes it may be one."""


class DamagedError(StreamError):
    """The payload is damaged and strict decoding was asked for."""

    exit_code = 5


class ModelError(PccodecError):
    """The model that a stream or a command needs is missing or does not fit."""

    exit_code = 6


class DependencyError(PccodecError):
    """An optional package that this input or command needs is not installed."""

    exit_code = 7
