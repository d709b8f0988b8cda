"""Fixtures for all tests."""

import logging
import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from kafka_fixtures import kafka, kafka_cluster, prefix

from streams.worker import loopback

# A machine that is slow, or busy with other tests, is no fault of what is tested: time is never judged by Hypothesis.
# And examples are the same on all of them: what a change breaks is seen by who makes it.  Others are looked for with
# `tests/run --hypothesis-profile search`.
for profile, same in (("any-machine", True), ("search", False)):
    settings.register_profile(profile, derandomize=same, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-machine")

# Processes that test side by side choose ports from ranges of their own: what one has chosen, but not yet opened, no
# other may choose.
_BESIDE = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_WHICH = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
vars(loopback)["PORTS"] = loopback.PORTS[_WHICH % _BESIDE :: _BESIDE]

# Where tests run in several processes, those ignore Ctrl-C, and whatever they start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def log_as_it_was() -> Iterator[None]:
    """A command that a test calls within this process configures the log, which libraries of later tests go by."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    root.setLevel(level)
    root.handlers[:] = handlers


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a row of docs/faults.md be chosen."""
    parser.addoption("--fault", action="append", metavar="ROW", help="only the tests of this row of docs/faults.md")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is not of the chosen rows."""
    rows = set(config.getoption("fault") or ())
    if rows:
        chosen = [item for item in items if any(rows.intersection(mark.args) for mark in item.iter_markers("fault"))]
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = chosen


__all__ = ["kafka", "kafka_cluster", "prefix"]
