"""An erasure on a real broker: by the installed program, proven on the compacted log, with nothing else changed."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import msgpack
import pytest
from harness import ROOT, Broker, Fleet, eventually

from streams.settings import PREFIX
from streams.topology import ALERTS, ROLLUPS_CHANGELOG, SESSIONS_CHANGELOG
from streams.worker import topics
from streams.worker.connection import KafkaConnection
from streams.worker.purge import remains
from streams.worker.topics import Seen

USER: Final = "user-canary-51c9"
SESSION: Final = "session-canary-8e02"
# What lets the log cleaner come by at once; the broker's own back-off is two seconds.
EAGER: Final = {
    "segment.ms": "100", "min.cleanable.dirty.ratio": "0.001", "delete.retention.ms": "0", "min.compaction.lag.ms": "0",
    "max.compaction.lag.ms": "100",
}  # fmt: skip


def test_what_remains_is_told_with_the_brokers_own_numbers() -> None:
    day = 86_400_000
    seen = {
        "p.events": Seen(1, 1, {"retention.ms": str(3 * day)}),
        "p.payloads": Seen(1, 1, {"retention.ms": "-1"}),
        "p.alerts": Seen(1, 1, {"min.compaction.lag.ms": str(30 * day)}),
    }
    told = {each.topic: each.until for each in remains(seen, "p.")}

    assert "3 days old" in told["p.events"]
    assert "for ever" in told["p.payloads"]
    assert "43200 minutes" in told["p.alerts"]


def events(now_ms: int) -> list[dict[str, Any]]:
    """Two users, four sessions; they fail so often that alerts name them."""
    made = []
    for number in range(120):
        user = USER if number % 4 in {1, 2} else "somebody"
        session = (SESSION, f"{USER}-s", "shared", "plain")[number % 4]
        common = {"agent": "a", "session_id": session, "user_id": user, "time": now_ms + number}
        made.append({"kind": "token_usage", "id": f"u{number}", "model": "m", "input_tokens": 10, "output_tokens": 1,
                     "call_id": f"m{number}", **common})  # fmt: skip
        made.append({"kind": "tool_end", "id": f"t{number}", "call_id": f"c{number}", "tool": "t", "status": "error",
                     "duration_ms": 5, **common})  # fmt: skip
    return made


def run(kafka: str, prefix: str, *arguments: str, code: int = 0) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    done = subprocess.run(
        [sys.executable, "-m", "streams", *arguments, "--bootstrap", kafka, "--prefix", prefix],
        capture_output=True, text=True, timeout=120, env={**kept, "PYTHONPATH": str(ROOT)}, cwd=ROOT, check=False,
    )  # fmt: skip
    assert code == done.returncode, done.stdout + done.stderr
    return done.stdout


def held(broker: Broker, topic: str, name: str) -> int:
    """Count the records that the log still has, with this text in key or value, whoever may read them."""
    return sum(name.encode() in (each.key() or b"") + (each.value() or b"") for each in broker.read(topic))


@pytest.mark.kafka
async def test_erased_is_gone_from_the_compacted_log_and_comes_back_from_no_replay(
    kafka: str, prefix: str, tmp_path: Path
) -> None:
    connection, broker = KafkaConnection(bootstrap=kafka), Broker(kafka)
    await topics.create(connection, prefix, {"events": 2, "rollups": 2})
    now_ms = int(time.time() * 1000) - 5_000
    told = [(each["session_id"].encode(), json.dumps(each).encode()) for each in events(now_ms)]
    names = {suffix: prefix + suffix for suffix in (SESSIONS_CHANGELOG.suffix, ROLLUPS_CHANGELOG.suffix, ALERTS.suffix)}

    def rows(suffix: str) -> list[bytes]:
        found = broker.rows(prefix + suffix).values()
        return [key + value for table in found for key, value in table.items() if USER.encode() in key + value]

    with Fleet(tmp_path) as fleet:
        worker = fleet.add("worker", ["-m", "streams", "worker", "--bootstrap", kafka, "--prefix", prefix])
        broker.publish(f"{prefix}events", told)
        eventually(lambda: rows(ROLLUPS_CHANGELOG.suffix), timeout_s=120, what=worker.tail)
        for what, name in (("session", SESSION), ("user", USER)):
            done = json.loads(run(kafka, prefix, "purge", what, name, "--yes", "--json"))
            assert ("applied", 0) == (done["outcome"], done["left"]), done
            assert done["rows"] > 0
            assert any("days old" in each["until"] for each in done["remains"])
        worker.kill()
        worker.start()

        # The same events once more, under other ids: older than the erasure, so nothing of them is taken.
        again = [(key, value.replace(b'"id": "', b'"id": "again-')) for key, value in told]
        broker.publish(f"{prefix}events", again)
        fresh = json.dumps({"kind": "heartbeat", "id": "h", "agent": "a", "source": "x", "time": now_ms}).encode()
        broker.publish(f"{prefix}events", [(b"plain", fresh)])
        rejected = eventually(lambda: _rejected(broker, prefix), timeout_s=120, what=worker.tail)
        assert 2 * 90 == rejected, "three quarters of the events were of the user or the session"
        assert [] == rows(SESSIONS_CHANGELOG.suffix) == rows(ROLLUPS_CHANGELOG.suffix)

        await topics.alter(connection, dict.fromkeys(names.values(), EAGER))

        def clean() -> bool:
            """Have every partition written to, which closes its last segment, and look at the whole log."""
            nudge = [fresh.replace(b'"h"', b'"%d"' % (time.time_ns() + n)) for n in range(8)]
            broker.publish(f"{prefix}events", [(b"plain%d" % n, value) for n, value in enumerate(nudge)])
            broker.publish(names[ALERTS.suffix], [(b"nudge%d" % n, b"{}") for n in range(8)])
            return not any(held(broker, names[suffix], each) for suffix in names for each in (USER, SESSION))

        eventually(clean, timeout_s=180, what=lambda: str({n: held(broker, n, USER) for n in names.values()}))
    assert 0 == held(broker, f"{prefix}commands", USER), "no topic of ours ever held the id"
    assert held(broker, f"{prefix}events", USER), "what agents published is theirs until it is old"


def _rejected(broker: Broker, prefix: str) -> int:
    """Return how many events were refused because of an erasure, once all were counted."""
    found = [msgpack.unpackb(table[b"m"], strict_map_key=False)[3]
             for table in broker.rows(f"{prefix}sessions.changelog").values() if b"m" in table]  # fmt: skip
    whole = sum(counters.get("received", 0) for counters in found)
    return sum(counters.get("rejected_erased", 0) for counters in found) if whole >= 2 * 240 + 1 else 0
