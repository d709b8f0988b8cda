"""Which prices does a text set?  YAML into frozen entries, strictly, with every fault at once.

Never reads a file and never prices anything.
"""

import re
from collections.abc import Mapping
from datetime import date
from typing import Any, Final

from streams.fold.price import PICO_PER_USD, PRICE_USD_MAX, Override, Rates
from streams.rule.faults import Faults, Form
from streams.rule.yamltext import load_yaml

ENTRIES_MAX: Final = 1_000  # each is looked at once per model and day
PATTERN_CHARS_MAX: Final = 128  # as long as a model's name may be
TYPES: Final = ("input", "output", "cache_read", "cache_write", "reasoning")
_KEYS: Final = ("model", "provider", "from", "until", *TYPES)
_PRICE: Final = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,12})?")
_PRICE_SHAPE: Final = f'US dollars per million tokens as text, such as "2.50", up to {PRICE_USD_MAX}'
_EPOCH: Final = date(1970, 1, 1).toordinal()


def parse_prices(text: str) -> tuple[Override, ...]:
    """Read a price file; raises ConfigError with all its faults."""
    faults = Faults()
    data = load_yaml(text, faults)
    found: list[Override] = []
    if isinstance(data, dict):
        Form(faults, "prices", data).only(("prices",))
        entries = data.get("prices")
        if isinstance(entries, list) and len(entries) <= ENTRIES_MAX:
            found = [_entry(faults, f"price {number}", each) for number, each in enumerate(entries, 1)]
        else:
            faults.note("prices", entries, f"a list of up to {ENTRIES_MAX} entries", "write prices: and entries below")
    elif not faults:
        faults.note("the file", data, "prices: and a list of entries", 'write prices: [{model: my-model, input: "1"}]')
    faults.settle("the prices cannot be used")
    return tuple(found)


def _entry(faults: Faults, place: str, data: Any) -> Override:
    if not isinstance(data, Mapping):
        faults.note(place, data, "an entry with a model and its prices", 'write {model: my-model, input: "1"}')
        data = {"model": "-", "input": "0"}
    form = Form(faults, place, data)
    form.only(_KEYS, {"to": "write until: the first day the price no longer holds"})
    model = form.text("model", None, chars_max=PATTERN_CHARS_MAX)
    provider = form.text("provider", "", chars_max=PATTERN_CHARS_MAX) if form.has("provider") else None
    from_day, until_day = _day(form, "from"), _day(form, "until")
    if from_day is not None and until_day is not None and from_day >= until_day:
        form.fault("until", "a day after from", "correct one of the two")
    if not form.has("input") and not form.has("output"):
        form.fault("input", _PRICE_SHAPE, 'write input: "0" and output: "0" for a model that costs nothing')
    given, made = _price(form, "input", 0), _price(form, "output", 0)
    rates = Rates(
        input=given,
        output=made,
        cache_read=_price(form, "cache_read", given),
        cache_write=_price(form, "cache_write", given),
        reasoning=_price(form, "reasoning", made),
    )
    return Override(model.lower(), provider.lower() if provider is not None else None, rates, from_day, until_day)


def _price(form: Form, key: str, otherwise: int) -> int:
    """Read a price as pico-USD per million tokens; text, because YAML would make it a binary fraction."""
    value = form.raw(key)
    if value is None:
        return otherwise
    if isinstance(value, str) and _PRICE.fullmatch(value):
        whole, _, part = value.partition(".")
        pico = int(whole) * PICO_PER_USD + int(part.ljust(12, "0"))
        if pico <= PRICE_USD_MAX * PICO_PER_USD:
            return pico
    quoted = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < PRICE_USD_MAX
    form.fault(key, _PRICE_SHAPE, f'put it in quotes: {key}: "{value}"' if quoted else f'write {key}: "1.00"')
    return otherwise


def _day(form: Form, key: str) -> int | None:
    """Read a day as days since 1970; YAML makes a date of 2026-01-31, which a quoted one is not."""
    value = form.raw(key)
    if value is None:
        return None
    if isinstance(value, str):
        try:
            value = date.fromisoformat(value)
        except ValueError:
            value = None
    if type(value) is date:  # and no moment: prices change with the day
        return value.toordinal() - _EPOCH
    form.fault(key, "a day in UTC such as 2026-01-31", f"write {key}: 2026-01-31")
    return None
