"""Events: one schema wherever they go, in order per subject, at least once, whatever breaks in between."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.harness.service import WAY, House, World, house

from bursar.core.errors import RailDown
from bursar.core.money import Amount
from bursar.core.ports import Event
from bursar.engine import clock
from bursar.invoices.commands import CreateInvoice
from bursar.server import encode
from bursar.server.config import SinkConfig
from bursar.server.library import open as embedded
from bursar.sinks.callback import CallbackSink
from bursar.sinks.jsonl import JsonlSink
from bursar.store.memory import MemoryStore

pytestmark = pytest.mark.anyio


def lines(path: Path) -> list[Any]:
    """What a receiver reads: lines that are JSON; a line that a crash cut short is none."""
    out = []
    for line in path.read_bytes().split(b"\n") if path.exists() else ():
        try:
            out.append(json.loads(line))
        except ValueError:
            continue
    return out


async def settle(it: House, count: int = 3) -> list[str]:
    """Invoices of one whole life each."""
    made = [await it.invoice() for _ in range(count)]
    for one in made:
        it.world.pay(one["ways"][0]["address"], "0.5")
    it.world.mine(2)
    for one in made:
        await it.until(f"/v1/invoices/{one['id']}", state="settled")
    return [one["id"] for one in made]


def in_order(events: list[Any]) -> None:
    for subject in {(e["tenant"], e["kind"], e["subject"]) for e in events}:
        versions = [e["version"] for e in events if (e["tenant"], e["kind"], e["subject"]) == subject]
        assert versions == sorted(versions)


async def test_the_file_says_what_the_api_says(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    async with house(tmp_path, sinks={"log": SinkConfig(str(log))}) as it:
        ids = await settle(it)
        served = (await it.get("/v1/events"))["items"]
        await it.soon(lambda: len([e for e in lines(log) if e["tenant"] == "main"]) == len(served))
        told = [e for e in lines(log) if e["tenant"] == "main"]
        raw = (await it.http.get("/v1/events")).content
        for line in log.read_bytes().splitlines():
            if b'"tenant":"main"' in line:
                assert line in raw  # byte for byte
        assert {e["id"] for e in told} == {e["id"] for e in served} and len({e["id"] for e in told}) == len(told)
        in_order(told)
        for id in ids:
            last = [e for e in told if e["subject"] == id][-1]
            assert (last["type"], last["reference_status"]) == ("invoice.settled.v1", "CONFIRMED")


async def test_a_new_file_begins_at_now_unless_it_asks_for_the_history(tmp_path: Path) -> None:
    world, store = World(), MemoryStore(clock.now)
    logs = [tmp_path / "now.jsonl", tmp_path / "history.jsonl"]
    async with house(tmp_path, world, store) as it:
        await settle(it, 1)
    before = {e.id for e in store.log}
    sinks = {log.stem: SinkConfig(str(log), history=log.stem == "history") for log in logs}
    for _ in range(2):  # what it is owed after a restart is what it has not confirmed
        async with house(tmp_path, world, store, sinks=sinks) as it:
            await settle(it, 1)
            await it.soon(lambda: {e.id for e in store.log} <= {e["id"] for e in lines(logs[1])})
    now, history = [{e["id"] for e in lines(log)} for log in logs]
    assert before < history and now == history - before


async def test_a_full_disk_delays_and_loses_nothing(tmp_path: Path) -> None:
    """/dev/full refuses every byte as a full disk does."""
    log = tmp_path / "events.jsonl"
    log.symlink_to("/dev/full")
    async with house(tmp_path, sinks={"log": SinkConfig(str(log))}) as it:
        await it.soon(lambda: it.shell.silent)
        assert "No space left on device" in it.said[0] and it.said[0].startswith("log does not answer")
        assert (await it.get("/readyz"))["ready"]
        log.unlink()
        ids = await settle(it)
        await it.soon(lambda: {e["subject"] for e in lines(log) if e["state"] == "settled"} >= set(ids))
        assert not it.shell.silent and it.said[-1] == "log answers again"
        in_order(lines(log))
        assert len(lines(log)) == len({e["id"] for e in lines(log)})


def test_a_file_on_a_small_disk_ends_whole(tmp_path: Path) -> None:
    """What was written when the disk became full is ended, and the event follows whole."""
    log = tmp_path / "events.jsonl"
    script = (
        "import asyncio, resource, signal, sys\n"
        "from pathlib import Path\n"
        "from bursar.core.errors import RailDown\n"
        "from bursar.sinks.jsonl import JsonlSink\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        'sink = JsonlSink(Path(sys.argv[1]), lambda event: b\'{"n": %d, "pad": "%s"}\' % (event, b\'x\' * 100))\n'
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300, resource.RLIM_INFINITY))\n"
        "for n in range(4):\n"
        "    try:\n"
        "        asyncio.run(sink.deliver(n))\n"
        "    except RailDown as err:\n"
        "        print(n, err)\n"
        "        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
        "        asyncio.run(sink.deliver(n))\n"
    )
    run = subprocess.run([sys.executable, "-c", script, log], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    assert "File too large" in run.stdout and run.stdout.startswith("2 ")
    assert [line["n"] for line in lines(log)] == [0, 1, 2, 3]
    assert log.read_bytes().count(b"\n") == 5  # one of them ends what was cut short


async def test_a_line_that_a_crash_cut_short_spoils_no_other(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    log.write_bytes(b'{"id":"main/invoice/a/1"}\n{"id":"main/inv')
    async with house(tmp_path, sinks={"log": SinkConfig(str(log))}) as it:
        await settle(it, 1)
        await it.soon(lambda: any(e.get("state") == "settled" for e in lines(log)))
        rows = log.read_bytes().split(b"\n")
        assert rows[1] == b'{"id":"main/inv' and rows[-1] == b"" and all(map(json.loads, [rows[0], *rows[2:-1]]))


async def test_one_subject_that_is_refused_holds_up_no_other(tmp_path: Path) -> None:
    """What an application's coroutine raises is not the others' fault."""
    world, got, angry = World(), list[Event](), set[str]()

    async def call(event: Event) -> None:
        if event.subject.id in angry:
            raise ValueError("a bug of the application's")
        got.append(event)

    store = MemoryStore(clock.now)
    async with house(tmp_path, world, store) as it:
        first = await it.invoice()
    angry.add(first["id"])
    async with house(tmp_path, world, store) as it:
        it.bursar.tell("app", call)
        await it.listen("app")
        ids = await settle(it, 2)
        await it.soon(lambda: {e.subject.id for e in got if e.state == "settled"} == set(ids))
        assert first["id"] not in {e.subject.id for e in got} and "a bug" in it.shell.silent["app"]
        angry.clear()
        await it.soon(lambda: first["id"] in {e.subject.id for e in got})
    assert len({e.id for e in got}) == len(got)


async def test_a_callback_gets_each_transition_once_more_at_most(tmp_path: Path) -> None:
    """A lost confirmation: the same id again, and nothing out of order."""
    got, sink = list[Event](), CallbackSink(call=lambda event: record(event))

    async def record(event: Event) -> None:
        got.append(event)
        if len(got) % 3 == 0:
            raise RailDown("its answer was lost")

    async with house(tmp_path) as it:
        it.bursar.sinks["app"] = sink
        await it.listen("app")
        await settle(it, 2)
        await it.soon(lambda: sum(e.state == "settled" for e in got) >= 2)
    firsts = list({e.id: e for e in got}.values())
    in_order([json.loads(encode.event_line(e)) for e in firsts])
    assert len(firsts) < len(got)


async def test_an_application_embeds_it(tmp_path: Path) -> None:
    """The library: `bursar.open` with a listener; an orderly end."""
    got, world, before = list[Event](), World(), asyncio.all_tasks()

    async def call(event: Event) -> None:
        got.append(event)

    toml = f'data = "{tmp_path}"\n[database]\nurl = "memory"\n'
    async with embedded(toml, world.rails(60_000_000), {"app": call}) as b:
        invoice = await b.invoices.create("main", CreateInvoice(Amount("BTC", "0.5"), [WAY]))
        world.pay(invoice.ways[0].address, "0.5")
        world.mine(2)
        end = clock.now() + 8_000_000
        while (await b.invoices.get("main", invoice.id)).state != "settled":
            assert clock.now() < end
            await asyncio.sleep(0.02)
        while not any(e.state == "settled" for e in got):
            assert clock.now() < end
            await asyncio.sleep(0.02)
    assert asyncio.all_tasks() == before


async def test_a_task_that_the_application_cancelled_ends_no_loop(tmp_path: Path) -> None:
    got, told = list[Event](), list[Event]()

    async def call(event: Event) -> None:
        got.append(event)
        if len(got) == 1:
            task = asyncio.create_task(asyncio.sleep(9))
            task.cancel()
            await task
        told.append(event)

    async with house(tmp_path) as it:
        it.bursar.tell("app", call)
        await it.listen("app")
        await settle(it, 1)
        await it.soon(lambda: any(e.state == "settled" for e in told))
    assert got[0].id in {e.id for e in told}


async def test_a_line_is_on_disk_before_it_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = list[int]()
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_size))
    sink = JsonlSink(tmp_path / "x", lambda event: b"{}")
    for n in range(2):
        await sink.deliver(n)  # type: ignore[arg-type]
    assert synced == [3, 6]
