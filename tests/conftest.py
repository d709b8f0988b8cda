"""Fixtures for all tests."""

import signal

from hypothesis import HealthCheck, settings
from kafka_fixtures import kafka, kafka_cluster, prefix

# A machine that is slow, or busy with other tests, is no fault of what is tested: time is never judged by Hypothesis.
settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-machine")

# Where tests run in several processes, those ignore Ctrl-C, and whatever they start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

__all__ = ["kafka", "kafka_cluster", "prefix"]
