"""Work spread over processes and machines, with the same results as one after the other."""

from pccodec.work.base import Serial, Workers

__all__ = ["Serial", "Workers"]
