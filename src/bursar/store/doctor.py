"""Does a store still say what its records amount to? It reads and tells; it repairs nothing.

Of subjects that are at work it says nothing: their status is about to be written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from ..core.ports import Controller, Event, Reading, Work
from ..core.subject import Status, Subject, SubjectId

PAGE = 100


class Finding(Struct, frozen=True):
    what: str  # "status", "event", "sum", "entry", "cursor", "watch", "coverage", "wake"
    place: str  # a subject, an account, a rail
    said: str  # a sentence


Entries = Sequence[tuple[str, str, int]]  # account, asset, minor units


class Resting(Work, Reading, Protocol):
    async def resting(self, after: int, limit: int) -> tuple[int, Sequence[tuple[SubjectId, int, Entries]]]:
        """Up to `limit` subjects that are neither dirty nor due, with their versions and what their entries amount to,
        and where to go on."""


class Patient(Resting, Protocol):
    async def faults(self) -> Sequence[tuple[str, str, str]]:
        """What the store finds by itself in one snapshot, as the fields of findings."""


async def examine(store: Patient, controllers: Mapping[str, Controller]) -> list[Finding]:
    """Whatever is wrong. For every subject at rest the stored status is the one that its records amount to."""
    found = [Finding(*fault) for fault in await store.faults()]
    async for subject, entries in at_rest(store):
        found += recomputed(subject, controllers)
        found += entered(subject, entries)
    return found


async def replay_verify(store: Resting, controllers: Mapping[str, Controller]) -> list[Finding]:
    """Every subject at rest, from its records alone: its status, and that its last event told it."""
    found: list[Finding] = []
    async for subject, _ in at_rest(store):
        found += recomputed(subject, controllers)
        last = await last_event(store, subject.id)
        if subject.status and (last is None or told(last) != told(subject.status)):
            said = "nothing was told of it" if last is None else f"its last event says {told(last)}"
            found.append(Finding("event", str(subject.id), f"{said}, its status {told(subject.status)}"))
    return found


async def at_rest(store: Resting) -> AsyncIterator[tuple[Subject, Entries]]:
    after, page = await store.resting(0, PAGE)
    while page:
        loads = await asyncio.gather(*(store.load(subject) for subject, _, _ in page))
        for (loaded, _), (_, version, entries) in zip(loads, page, strict=True):
            if loaded.version == version:  # else it is at work by now
                yield loaded, entries
        after, page = await store.resting(after, PAGE)


def recomputed(subject: Subject, controllers: Mapping[str, Controller]) -> list[Finding]:
    if subject.id.kind not in controllers:
        return [Finding("status", str(subject.id), "no controller knows its kind")]
    status = controllers[subject.id.kind].status(subject)
    if status == subject.status:
        return []
    return [Finding("status", str(subject.id), f"stored is {subject.status}, its records amount to {status}")]


def entered(subject: Subject, entries: Entries) -> list[Finding]:
    """The sum of a subject's entries is the level that its status holds."""
    level: dict[tuple[str, str], int] = {}
    for line in [line for posting in (subject.status.postings if subject.status else ()) for line in posting.lines]:
        level[line.account, line.asset] = level.get((line.account, line.asset), 0) + line.minor
    have = {(account, asset): minor for account, asset, minor in entries}
    wrong = sorted(key for key in have.keys() | level.keys() if have.get(key, 0) != level.get(key, 0))
    said = "; ".join(f"{key[1]} of {key[0]}: {have.get(key, 0)} and {level.get(key, 0)}" for key in wrong)
    return [Finding("entry", str(subject.id), f"what was entered and what it holds differ: {said}")] if wrong else []


async def last_event(store: Reading, subject: SubjectId) -> Event | None:
    last, after = None, 0
    while page := await store.told(subject, after, PAGE):
        last, after = page[-1], page[-1].version
    return last


def told(of: Status | Event) -> tuple[str, str, list[str]]:
    return of.state, of.mover.value, sorted(of.flags)
