"""Settings of all tests, and what they need of the process that runs them."""

from __future__ import annotations

import signal

import pytest
from hypothesis import settings

# A busy machine is no defect: speed is measured by benchmarks, not by tests.
settings.register_profile("pccodec", deadline=None)
settings.load_profile("pccodec")


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> None:
    """Undo what a shell does to commands in the background: they, and all that they start, ignore Ctrl-C.

    Tests that interrupt a command would wait for ever.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
