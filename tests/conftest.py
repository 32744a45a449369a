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
    """Undo what a shell does to commands in the background, and nohup: all that they start ignores a signal.

    Tests that interrupt a command would wait for ever.
    """
    for name, handler in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)
