"""Settings of all tests."""

from hypothesis import settings

# A busy machine is no defect: speed is measured by benchmarks, not by tests.
settings.register_profile("pccodec", deadline=None)
settings.load_profile("pccodec")
