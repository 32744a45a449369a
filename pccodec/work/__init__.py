"""Work spread over processes and machines, with the same results as one after the other."""

from pccodec.work.base import Serial, Workers
from pccodec.work.choice import open_workers

__all__ = ["Serial", "Workers", "open_workers"]
