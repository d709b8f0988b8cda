"""Fixtures for all tests."""

from kafka_fixtures import kafka, kafka_cluster, prefix

__all__ = ["kafka", "kafka_cluster", "prefix"]
