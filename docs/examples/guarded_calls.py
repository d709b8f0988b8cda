"""An agent that asks before it calls a tool; it needs a broker and nothing else.

    pip install agent-streams
    AGENT_STREAMS_KAFKA_BOOTSTRAP_SERVERS=localhost:9092 AGENT_STREAMS_EMITTER_GUARD=kafka python guarded_calls.py

Once the workers have opened the circuit of `weather`, or stopped this session, it says why instead of the weather.
"""
# ruff: noqa: T201, INP001  an example prints, and is no package

from streams.feed import CallDenied, Emitter, Session


def weather(city: str) -> str:
    """Tell the weather."""
    return f"rain in {city}"


def ask(session: Session) -> str:
    """Call the tool, unless it is stopped."""
    try:
        session.check("tool:weather")
    except CallDenied as denied:
        return str(denied)
    with session.tool_call("weather", arguments={"city": "Lisbon"}) as call:
        answer = weather("Lisbon")
        call.output(answer)
        return answer


def main() -> None:
    """Ask once, and show what became of the events."""
    with Emitter() as emitter:
        emitter.guard.wait_ready()
        session = Session(emitter, agent="planner", session_id="example-1")
        with session.request():
            print(ask(session))
    stats = emitter.stats()
    print(f"{stats.acknowledged} of {stats.emitted} events are in {emitter.config.topic}")


if __name__ == "__main__":
    main()
