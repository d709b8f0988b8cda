"""Which custom metrics has a person declared?  JSON text in, declarations out; what is wrong is noted, all of it.

Never reads a setting by itself, and never lets a person be a label.
"""

import re
from itertools import pairwise
from typing import Any, Final

import msgspec

from streams.event.custom import VALUE_MAX, CustomMetric, Customs
from streams.rule.faults import Faults, Form

METRICS_MAX: Final = 100
LABELS_MAX: Final = 4
BUCKETS_MAX: Final = 30  # series per key of a histogram, but for three
NAME_CHARS_MAX: Final = 60
HELP_CHARS_MAX: Final = 200
EXAMPLE: Final = '[{"name":"orders","kind":"counter","labels":["shop"]}]'
KINDS: Final = ("counter", "gauge", "histogram")
_NAME: Final = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_MILLION: Final = 1_000_000
# Whoever is behind one of these is a person or a moment, and there is no end of them; the last two are Prometheus's.
_NO_LABELS: Final = frozenset({
    "session", "session_id", "user", "user_id", "request", "request_id", "call", "call_id", "trace_id", "id", "le",
    "quantile",
})  # fmt: skip
_ENDINGS: Final = ("_count", "_sum", "_bucket", "_created", "_info")


def read_customs(text: str, faults: Faults, place: str) -> Customs:
    """Read declarations; of those with a fault nothing is kept."""
    try:
        data = msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError) as error:
        faults.note(place, str(error), "a JSON array of metrics", f"write {EXAMPLE}, for example")
        return {}
    if not isinstance(data, list) or len(data) > METRICS_MAX:
        faults.note(place, data, f"a JSON array of at most {METRICS_MAX} metrics", f"write {EXAMPLE}, for example")
        return {}
    found: dict[str, CustomMetric] = {}
    for number, each in enumerate(data, 1):
        at = f"{place}, metric {number}"
        if not isinstance(each, dict):
            faults.note(at, each, "an object", f"write {EXAMPLE[1:-1]}, for example")
            continue
        metric = _metric(Form(faults, at, each))
        if metric.name in found:
            faults.note(f"{at}, name", metric.name, "each name once", "remove one of the two")
        found[metric.name] = metric
    return found


def _metric(form: Form) -> CustomMetric:
    form.only(("name", "kind", "labels", "buckets", "help"))
    name = form.text("name", None, chars_max=NAME_CHARS_MAX)
    if name and (not _NAME.fullmatch(name) or name.endswith(_ENDINGS)):
        form.fault("name", "lower-case words joined by underscores, without an ending of Prometheus", "rename it")
    kind = form.choice("kind", KINDS, None)
    text = form.text("help", "", chars_max=HELP_CHARS_MAX)
    return CustomMetric(name, kind or "counter", _labels(form), _bounds(form, kind), text)  # type: ignore[arg-type]  # one of KINDS


def _labels(form: Form) -> tuple[str, ...]:
    labels = form.raw("labels") or []
    good = (
        isinstance(labels, list)
        and len(labels) <= LABELS_MAX
        and all(isinstance(label, str) and _NAME.fullmatch(label) and label not in _NO_LABELS for label in labels)
        and len(set(labels)) == len(labels)
    )
    if not good:
        shape = f"at most {LABELS_MAX} different lower-case names, none of them a person's, a session's or a call's"
        form.fault("labels", shape, 'write ["shop"], for example')
        return ()
    return tuple(labels)


def _bounds(form: Form, kind: str) -> tuple[int, ...]:
    buckets = form.raw("buckets")
    if not kind:  # which is a fault already
        return ()
    if kind != "histogram":
        if buckets is not None:
            form.fault("buckets", f"nothing: a {kind} has none", "remove them")
        return ()
    if not isinstance(buckets, list) or not 0 < len(buckets) <= BUCKETS_MAX or not all(map(_is_bound, buckets)):
        form.fault("buckets", f"1 to {BUCKETS_MAX} numbers from 0 to {VALUE_MAX}", "write [0.1, 1, 10], for example")
        return ()
    bounds = tuple(round(upper * _MILLION) for upper in buckets)
    if any(low >= high for low, high in pairwise(bounds)):
        form.fault("buckets", "numbers that grow, by a millionth at least", "sort them")
    return bounds


def _is_bound(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= VALUE_MAX
