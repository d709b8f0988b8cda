"""Which rules hold when nobody has written any: `defaults.yaml`, as shipped."""

from functools import cache
from importlib.resources import files

from streams.rule.model import RuleSet
from streams.rule.parse import parse_rules


def defaults_text() -> str:
    """Return the shipped rules as people can copy and edit them."""
    return files("streams.rule").joinpath("defaults.yaml").read_text("utf-8")


@cache
def default_rules() -> RuleSet:
    """Return the shipped rules."""
    return parse_rules(defaults_text())
