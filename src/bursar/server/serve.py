"""Bursar as a service: HTTP and the loops in one process, until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import signal
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from msgspec import Struct

from ..core.errors import Explained
from ..core.ports import Event
from .config import Config
from .http.app import application
from .http.auth import Caller, Sessions
from .shell import Shell
from .wiring import Bursar, Rail, wired

Say = Callable[[str], None]


class Server(uvicorn.Server):
    """Without signal handlers of its own: the stop is ours, and orderly."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One service a data folder. Raises Explained."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o711)  # the database's user must get through
        file = (folder / "lock").open("w")
    except OSError as err:
        raise Explained(f"{folder} can not be used: {err.strerror}", "`data` in bursar.toml names the folder") from err
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as err:
            hint = "stop it, or give this one a data folder of its own"
            raise Explained(f"another Bursar uses {folder}", hint) from err
        yield


def listen(config: Config) -> socket.socket:
    """Raises Explained: the port is taken."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((config.http.host, config.http.port))
        sock.listen(2048)
    except OSError as err:
        sock.close()
        where = f"{config.http.host}:{config.http.port}"
        raise Explained(f"{where} can not be used: {err.strerror}", "set BURSAR_PORT to a free port") from err
    return sock


class Beside(Struct):
    """What runs in the service's process beside it: rails of its own, a listener, a coroutine until the stop."""

    rails: Mapping[str, Rail] = {}
    tell: Mapping[str, Callable[[Event], Awaitable[None]]] = {}
    run: Callable[[Bursar, asyncio.Event], Coroutine[Any, Any, None]] | None = None


async def serve(config: Config, say: Say, beside: Beside) -> None:
    """Returns after an orderly stop. Raises Explained."""
    stopping = asyncio.Event()
    logging.getLogger("psycopg").setLevel(logging.CRITICAL)  # what it says is said by the loops, once
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    with alone(config.folder), listen(config) as sock:
        async with wired(config, beside.rails, say) as bursar:
            for name, call in beside.tell.items():
                bursar.tell(name, call)
            await bursar.begin()
            await bursar.keys.first(config.folder, config.tenant)
            shell, sessions = Shell(bursar, say, stopping), Sessions()
            app = application(bursar, shell, sessions)
            settings = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_keep_alive=5)
            settings.timeout_graceful_shutdown = 2
            server = Server(settings)
            where, link = f"http://{config.http.host}:{config.http.port}", Caller("console", config.tenant, "admin")
            say(f"Bursar listens on {where}; the API key is in {config.folder / 'admin.key'}")
            say(f"Console (this link works once): {where}/login?token={sessions.link(link)}")
            running = [asyncio.create_task(part) for part in (shell.run(), server.serve([sock]))]
            if beside.run is not None:
                running.append(asyncio.create_task(beside.run(bursar, stopping)))
            await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)  # at the stop, or one has failed
            stopping.set()
            server.should_exit = True
            say("stopping: what is under way is finished first")
            await asyncio.gather(*running)
