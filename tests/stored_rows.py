"""Any session row that could be stored."""

from hypothesis import strategies as st

from streams.fold.session import Account, Loop, Pane, SessionRow, ToolTotals, Trail

count = st.integers(0, 2**53)
text = st.text(max_size=8)
number = st.integers(0, 2**60 - 1)
loops = st.builds(Loop, text, count, count, count, count, count, count, count, count)
by_number = st.dictionaries(number, loops, max_size=3)
trails = st.builds(
    Trail, count, count, st.integers(0, 2**32), st.binary(max_size=16), st.binary(max_size=8), by_number, by_number,
    by_number, st.none() | loops, st.none() | loops, count, st.binary(max_size=8), count,
)  # fmt: skip
rows = st.builds(
    SessionRow,
    agent=text,
    tenant=st.none() | text,
    user_id=st.none() | text,
    started_ms=count,
    last_ms=count,
    seen_ms=count,
    incarnation=st.integers(1, 2**40),
    ended_ms=st.just(0) | count,
    end_reason=st.none() | text,
    stamp=st.integers(-1, 2**60),
    events=count,
    cost_nano_usd=count,
    tools=st.dictionaries(text, st.builds(ToolTotals, count, count, count), max_size=3),
    open=st.dictionaries(
        text,
        st.tuples(st.integers(0, 3), text, st.none() | text, st.none() | text, st.none() | text, count),
        max_size=3,
    ),
    marks=st.dictionaries(text, st.tuples(count, st.integers(1, 2**64 - 1)).map(list), max_size=3),
    ledger=st.dictionaries(
        text, st.builds(Account, count, count, st.none() | text, count, st.integers(-1, 2**53), text), max_size=3
    ),
    panes=st.lists(st.builds(Pane, count, count, count), max_size=3),
    cycles=count,
    begun=st.dictionaries(text, st.tuples(count, count, count), max_size=3),
    trail=st.none() | trails,
    beats=st.dictionaries(text, count, max_size=3),
)
