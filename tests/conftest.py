"""Fixtures for all tests."""

from hypothesis import HealthCheck, settings
from kafka_fixtures import kafka, kafka_cluster, prefix

# A machine that is slow, or busy with other tests, is no fault of what is tested: time is never judged by Hypothesis.
settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-machine")

__all__ = ["kafka", "kafka_cluster", "prefix"]
