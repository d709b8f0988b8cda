"""A web server that takes notices: it checks what it is sent as any receiver could, and can be out of order."""

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from aiohttp import web

from streams.worker.loopback import HOST, free_ports

SECRET: Final = b"a secret that nobody guesses"
SKEW_S: Final = 300  # a receiver's own bound against old copies


class Hooks:
    """`/hook` takes signed notices, `/chat` takes Slack's; `status` is what both answer."""

    def __init__(self) -> None:
        (self.port,) = free_ports(1)
        self.status = 200
        self.refused_tool = ""  # notices of this tool are answered with 400
        self.hooked: list[dict[str, Any]] = []
        self.said: list[dict[str, Any]] = []
        self.faults: list[str] = []
        self.attempts = 0
        self.before_answer: Callable[[], None] = _nothing  # called when a notice was taken

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://{HOST}:{self.port}"

    @property
    def ids(self) -> list[str]:
        """What was taken, in order."""
        return [each["data"]["id"] for each in self.hooked]

    async def hook(self, request: web.Request) -> web.Response:
        """Take a notice, if its signature is right."""
        self.attempts += 1
        body = await request.read()
        name, stamp = request.headers["webhook-id"], request.headers["webhook-timestamp"]
        digest = hmac.new(SECRET, f"{name}.{stamp}.".encode() + body, hashlib.sha256).digest()
        given = request.headers["webhook-signature"].partition("v1,")[2]
        notice = json.loads(body)
        if not hmac.compare_digest(base64.b64decode(given), digest):
            self.faults.append(f"signature of {name}")
        if name != notice["data"]["id"]:
            self.faults.append(f"id of {name}")
        if request.headers.get("Authorization") != "Bearer token-1":
            self.faults.append(f"login of {name}")
        if notice["data"]["labels"]["tool"] == self.refused_tool:
            return web.Response(status=400)
        if self.status == 200:
            self.hooked.append(notice)
            self.before_answer()
        return web.Response(status=self.status)

    async def chat(self, request: web.Request) -> web.Response:
        """Take what Slack would."""
        if self.status == 200:
            self.said.append(await request.json())
        return web.Response(status=self.status)


def _nothing() -> None:
    """Do nothing."""


@asynccontextmanager
async def hooks() -> AsyncIterator[Hooks]:
    """Run one."""
    taken = Hooks()
    app = web.Application()
    app.router.add_post("/hook", taken.hook)
    app.router.add_post("/chat", taken.chat)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, HOST, taken.port).start()
    try:
        yield taken
    finally:
        await runner.cleanup()
