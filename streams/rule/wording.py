"""Which sentence tells people about an alert: templates with {name} placeholders.

Never keeps an alert from being raised: what cannot be rendered becomes a text that says so.
"""

import re
from collections.abc import Collection, Mapping
from typing import Final

# What every rule may use; the columns of its key and the names of its labels come on top.
PLACEHOLDERS: Final = ("alert", "severity", "value", "limit", "count", "window", "for")
# What rules over detected values may use besides: what was found, and since when; used since, by the session.
EXPLAINING: Final = ("signature", "since", "tokens_since", "cost_since")

_TOKEN: Final = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


def template_fault(template: str, names: Collection[str]) -> str | None:
    """Say what is wrong with a template, or None; {{ and }} stand for braces."""
    for token in _TOKEN.finditer(template):
        if token[0] in {"{", "}"}:
            return f"the brace at character {token.start() + 1} has no partner"
        if token[1] is not None and token[1] not in names:
            return f"there is no {{{token[1]}}}"
    return None


def render(template: str, values: Mapping[str, str]) -> str:
    """Fill a template in; a faulty one gives an error text with the template in it."""
    fault = template_fault(template, values)
    if fault is not None:
        return f"<template error: {fault}> {template}"

    def put(token: re.Match[str]) -> str:
        return token[0][0] if token[1] is None else values[token[1]]

    return _TOKEN.sub(put, template)
