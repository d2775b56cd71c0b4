"""`bursar up` as a process: its memory when nothing happens, and how long a second start takes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from .database import Cluster, clear
from .rows import Row, below, beside

RAILS = """
[rails."bitcoin:regtest"]
source = "http://user:password@127.0.0.1:1"
xpub = "tpubDDH1ndozCcuGXjVaXnB4NHUWbKfMTYfxH3wuU1GFvCXtEZZqsMY6NxBdgdaebExgDAVicckGNJDU8wVfRUWWMaov5jX4zPaDorqe75QwjAC"
[rails."cardano:preprod"]
source = "http://127.0.0.1:1/api/v1"
"""  # nobody answers there: whoever is idle waits for nothing else
UP = "from bursar.server.cli import main; main()"
LIBRARIES = "import cyclopts, httpx, litestar, msgspec, psycopg, psycopg_pool, uvicorn"
ALONE = f"{LIBRARIES}\nprint('ready', flush=True)\ninput()"  # the libraries and nothing of ours
LAUNCHER = """
import sys
from pathlib import Path
from bursar.store.embedded import Embedded
with Embedded(Path(sys.argv[1])):
    print("ready", flush=True)
    input()
"""
REST = 5.0  # seconds of idleness before its memory is read
STARTS = 4
PATIENCE = 60.0


def memory(cluster: Cluster) -> list[Row]:
    database = cluster.migrated()
    settings = f'[database]\nurl = "{cluster.dsn("bursar_engine", database)}"\n'
    settings += f'migrate = "{cluster.dsn("bursar_migrate", database)}"\n'
    with folder() as place:
        with up(place, settings) as (process, _):
            time.sleep(REST)
            ours = resident(process.pid)
        with started(place, [sys.executable, "-c", ALONE]) as (process, _):
            theirs = resident(process.pid)
    name = "idle memory of `bursar up` without PostgreSQL, against its libraries imported"
    return [below(name, "MB", ours, theirs, 120)]


def starts() -> list[Row]:
    with folder() as place:
        launcher = [sys.executable, "-c", LAUNCHER, str(place / "data" / "postgres")]
        with up(place, ""):
            time.sleep(1)
        with started(place, launcher):
            pass
        ours, theirs = list[float](), list[float]()
        for _ in range(STARTS):
            with up(place, "") as (_, seconds):
                ours.append(seconds)
            with started(place, launcher) as (_, seconds):
                theirs.append(seconds)
    name = "second start of `bursar up` until it is ready, against its embedded PostgreSQL alone"
    return [below(name, "s", *beside(ours, theirs), 2)]


@contextmanager
def folder() -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(prefix="bursar-bench-"))
    place.chmod(0o711)
    try:
        yield place
    finally:
        clear(place / "data")
        clear(place)


@contextmanager
def up(place: Path, settings: str) -> Iterator[tuple[subprocess.Popen[str], float]]:
    """A service that is ready, and how many seconds that took."""
    port = free_port()
    config = place / "bursar.toml"
    config.write_text(f'data = "{place / "data"}"\n[http]\nport = {port}\n{settings}{RAILS}')
    config.chmod(0o600)
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", UP, "up", "--config", str(config)],
        stdout=subprocess.DEVNULL,
        text=True,
        env=environment(place),
        cwd=place,
    )
    try:
        ready(process, f"http://127.0.0.1:{port}/readyz")
        yield process, time.perf_counter() - began
    finally:
        end(process)


def environment(place: Path) -> dict[str, str]:
    """As on a person's machine, where the first start leaves its bytecode to the second; here that stays in `place`."""
    ours = {"BURSAR_PORT", "PYTHONDONTWRITEBYTECODE"}
    inherited = {key: value for key, value in os.environ.items() if key not in ours}
    return inherited | {"PYTHONPYCACHEPREFIX": str(place / "bytecode")}


def ready(process: subprocess.Popen[str], url: str) -> None:
    deadline = time.perf_counter() + PATIENCE
    with httpx.Client(trust_env=False) as client:
        while time.perf_counter() < deadline and process.poll() is None:
            try:
                if client.get(url).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.01)
    raise RuntimeError(f"nothing is ready at {url}")


@contextmanager
def started(place: Path, command: list[str]) -> Iterator[tuple[subprocess.Popen[str], float]]:
    """A program that has said "ready", and after how many seconds; it ends when its input does."""
    began = time.perf_counter()
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        if process.stdout.readline() != "ready\n":
            raise RuntimeError(f"{command} did not start")
        yield process, time.perf_counter() - began
    finally:
        process.stdin.close()
        process.stdout.close()
        end(process)


def end(process: subprocess.Popen[str]) -> None:
    if process.stdin is None:
        process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def resident(pid: int) -> float:
    """Megabytes of a process, not of its children."""
    status = Path(f"/proc/{pid}/status")
    if status.exists():
        kilobytes = next(line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmRSS"))
    else:
        kilobytes = subprocess.run(
            ["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=True
        ).stdout
    return int(kilobytes) * 1024 / 1_000_000


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port
