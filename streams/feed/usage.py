"""Which tokens does an agent's own code hand over: a mapping, or an SDK's object, in whichever dialect?

Never decides what the counts mean: `streams.event.tokens` does.
"""

from collections.abc import Mapping

from streams.event.tokens import Usage, canonical, dialect_of

__all__ = ["Usage", "usage_of"]


def usage_of(reported: object) -> Usage | None:
    """Read usage as a framework or a provider reports it; None without anything to read."""
    dump = getattr(reported, "model_dump", None)
    if callable(dump):
        reported = dump()
    if not isinstance(reported, Mapping) or not reported:
        return None
    dialect = dialect_of(reported)
    counted = None if dialect is None else canonical(dialect, reported)
    return None if counted is None else counted.usage
