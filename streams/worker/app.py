"""Which parts make a worker?  One Faust app: an agent, a table and a changelog per stage.

Never works at import, never declares a topic, and opens no port.
"""

import logging
from collections.abc import AsyncIterable, Awaitable, Callable
from typing import Any, Final

import faust
import faust.app.base
from mode import CrashingSupervisor

from streams.topology import Stage
from streams.worker.config import WorkerConfig
from streams.worker.partition import Stages
from streams.worker.recovery import TableManager
from streams.worker.runner import Runner
from streams.worker.store import Table
from streams.worker.transport import Chunk, Transport

_NEVER_S: Final = 24 * 60 * 60.0


class BootStrategy(faust.app.base.BootStrategy):  # type: ignore[misc]  # Faust carries no types
    """Faust's services without those we do not use."""

    enable_kafka_producer = False
    enable_web = False


class ChunkSchema(faust.Schema):  # type: ignore[misc]  # Faust carries no types
    """Hands a chunk to the agent as it is."""

    def compile(self, app: Any, **_: Any) -> Callable[..., Awaitable[Any]]:
        """Return the decoder that Faust calls per message: per chunk, never per record."""
        create_event = app.create_event

        async def decode(message: Any, *, propagate: bool = False) -> Any:  # noqa: ARG001  Faust's signature
            return create_event(None, message.value, None, message)

        return decode


class App(faust.App):  # type: ignore[misc]  # Faust carries no types
    """A Faust app whose data path is the runner's."""

    logger = logging.getLogger("faust.worker")

    BootStrategy = BootStrategy

    def __init__(self, runner: Runner, **options: Any) -> None:
        self.runner = runner
        super().__init__(runner.config.group_id, **options)
        self.on_partitions_revoked.connect(self._write_before_revoke)
        self.on_before_shutdown.connect(self._write_before_shutdown)

    async def on_first_start(self) -> None:
        """Make no folders: nothing is kept on disk."""

    def _new_transport(self) -> Transport:
        return Transport(self.conf.broker_consumer, self)

    def _new_consumer(self) -> Any:
        consumer = super()._new_consumer()
        self.runner.attach(consumer._thread)
        return consumer

    async def crash(self, reason: BaseException) -> None:
        """Let the runner decide how the process ends."""
        self._crash(reason)

    def _crash(self, reason: BaseException) -> None:
        self.runner.fail(reason)
        super()._crash(reason)

    async def _write_before_revoke(self, *_: Any, **__: Any) -> None:
        await self.runner.revoked()

    async def _write_before_shutdown(self, *_: Any, **__: Any) -> None:
        await self.runner.close()


def create_app(config: WorkerConfig, stages: Stages) -> App:
    """Assemble the app; it does nothing until it is started inside a running loop."""
    runner = Runner(config, stages)
    app = App(
        runner,
        broker=";".join(f"kafka://{address.strip()}" for address in config.connection.bootstrap.split(",")),
        broker_session_timeout=config.session_timeout_ms / 1000,
        broker_heartbeat_interval=config.heartbeat_ms / 1000,
        broker_request_timeout=config.request_timeout_ms / 1000,
        broker_rebalance_timeout=config.rebalance_timeout_ms / 1000,
        broker_commit_interval=_NEVER_S,  # offsets are committed in the partitions' transactions
        processing_guarantee="at_least_once",  # Faust's own transactions are not used
        canonical_url="http://worker",  # the assignor compares it with what a static member had in its last life
        consumer_auto_offset_reset="none",
        agent_supervisor=CrashingSupervisor,
        stream_buffer_maxsize=config.queued_chunks,
        stream_recovery_delay=0.0,
        stream_wait_empty=False,  # nothing is acknowledged through Faust
        table_standby_replicas=0,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        Table=Table,
        TableManager=TableManager,
    )
    for stage, _ in stages:
        _add(app, stage)
    return app


def _add(app: App, stage: Stage) -> None:
    config, runner = app.runner.config, app.runner
    changelog = app.topic(config.topic(stage.changelog.suffix), acks=False)
    app.Table(stage.name, stage=stage, changelog_topic=changelog)
    source = app.topic(config.topic(stage.source.suffix), schema=ChunkSchema(), acks=False)

    @app.agent(source, name=stage.name)  # type: ignore[untyped-decorator]  # Faust carries no types
    async def fold(chunks: AsyncIterable[Chunk]) -> None:
        async for chunk in chunks:
            await runner.feed(chunk)
