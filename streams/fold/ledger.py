"""Do the sums that parents report agree with what their leaves reported?  One small account per call of a session.

Never adds a parent's sum to anything: leaves own their tokens, aggregates are only held against them.

A leaf belongs to the call named by its `parent_id`, or without one to its own call when that is a request or a tool
call, and to every call known to enclose that one.  So each account holds all leaves beneath it, in whichever order they
and what encloses them became known, and of nested aggregates each is held against its own leaves.  The gap of a call is
settled when its end, or its last aggregate, is GRACE_MS old, or when its session ends; until then late leaves count.
Without an aggregate there is nothing to settle, and only the newest such calls are kept.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple, TypeAlias

from streams.fold.session import Account
from streams.fold.streamtime import GRACE_MS

CALLS_MAX: Final = 32  # per session; about 50 bytes each as stored, so 1.6 kB of a row at most
UNCLAIMED_MAX: Final = 4  # calls that are over and have no aggregate yet: one comes with the end of its call or never
DEPTH_MAX: Final = 16  # calls within calls; deeper ones are not followed


Accounts: TypeAlias = dict[str, Account]  # by call id, oldest first


class Settled(NamedTuple):
    """What became of one account; an aggregate names more tokens than its leaves (over) or fewer (under)."""

    agent: str  # "" when no aggregate named one
    tenant: str | None
    aggregates: int = 0
    leafless: int = 0
    over_tokens: int = 0
    under_tokens: int = 0
    forgotten: int = 0


def add_leaf(accounts: Accounts, owner_id: str, tokens: int) -> Settled | None:
    """Count a leaf for the call it belongs to and all that enclose it; returns what was given up to make room."""
    gone = _open(accounts, owner_id)
    _credit(accounts, owner_id, leaves=1, tokens=tokens)
    return gone


def add_aggregate(
    accounts: Accounts, call_id: str, parent_id: str | None, tokens: int, now_ms: int, agent: str, tenant: str | None
) -> list[Settled]:
    """Note what a call says of its leaves; of several reports the largest stands, as sums of a running call grow."""
    gone = [_open(accounts, call_id)]
    account = accounts[call_id]
    account.aggregate_tokens = max(account.aggregate_tokens, tokens)
    account.agent, account.tenant = agent, tenant
    gone.append(end_call(accounts, call_id, parent_id, now_ms))
    return [each for each in gone if each is not None]


def end_call(accounts: Accounts, call_id: str, parent_id: str | None, now_ms: int) -> Settled | None:
    """Note the end of a call that leaves or an aggregate were reported for, and which call encloses it."""
    account = accounts.get(call_id)
    if account is None:
        return None
    account.done_ms = max(account.done_ms, now_ms, 1)
    if parent_id is None or account.parent is not None or _encloses(accounts, call_id, parent_id):
        return None
    account.parent = parent_id
    gone = _open(accounts, parent_id)
    _credit(accounts, parent_id, leaves=account.leaves, tokens=account.leaf_tokens)
    return gone


def due(accounts: Accounts, now_ms: int) -> list[Settled]:
    """Settle the calls that have been over for the grace; most have nothing to say."""
    over, unclaimed = [], []
    for call_id, each in accounts.items():
        if not each.done_ms:
            continue
        if each.aggregate_tokens < 0:
            unclaimed.append(call_id)
        elif now_ms - each.done_ms >= GRACE_MS:
            over.append(call_id)
    for call_id in unclaimed[:-UNCLAIMED_MAX]:
        del accounts[call_id]
    return _settle([accounts.pop(call_id) for call_id in over]) if over else []


def close(accounts: Accounts) -> list[Settled]:
    """Settle everything: the session is over."""
    settled = _settle(accounts.values())
    accounts.clear()
    return settled


def _settle(accounts: Iterable[Account]) -> list[Settled]:
    return [_verdict(each) for each in accounts if each.aggregate_tokens >= 0]


def _verdict(account: Account, *, forgotten: int = 0) -> Settled:
    if account.aggregate_tokens < 0:
        return Settled("", None, forgotten=forgotten)
    gap = account.aggregate_tokens - account.leaf_tokens
    leafless = int(account.leaves == 0)
    return Settled(account.agent, account.tenant, 1, leafless, max(gap, 0), max(-gap, 0), forgotten)


def _open(accounts: Accounts, call_id: str) -> Settled | None:
    """Make sure that there is an account; beyond CALLS_MAX the oldest is settled as it stands.

    It is forgotten when its call still went on: an aggregate to come would find no leaves.
    """
    if call_id in accounts:
        return None
    oldest = accounts.pop(next(iter(accounts))) if len(accounts) >= CALLS_MAX else None
    accounts[call_id] = Account()
    if oldest is None or (oldest.done_ms and oldest.aggregate_tokens < 0):
        return None
    return _verdict(oldest, forgotten=int(not oldest.done_ms))


def _credit(accounts: Accounts, call_id: str, *, leaves: int, tokens: int) -> None:
    """Add to a call and to what encloses it."""
    above: str | None = call_id
    for _ in range(DEPTH_MAX):
        account = accounts.get(above) if above is not None else None
        if account is None:
            return
        account.leaves += leaves
        account.leaf_tokens += tokens
        above = account.parent


def _encloses(accounts: Accounts, call_id: str, inner_id: str) -> bool:
    """Is a call the other one, or around it?  Then the other one cannot be around it: calls form no circles."""
    above: str | None = inner_id
    while above is not None:
        if above == call_id:
            return True
        account = accounts.get(above)
        above = account.parent if account is not None else None
    return False
