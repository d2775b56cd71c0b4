"""Commits as the rows that SQL reads, and JSON documents back into core types. It sends nothing.

A body travels as a string inside the JSON of its row, so that PostgreSQL never has to read what stands in it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any
from zlib import crc32

from msgspec import Struct, json
from msgspec.structs import asdict

from ...core.facts import Cursor, Fact, Rollback
from ...core.ledger import RESERVED, Overdrawn
from ...core.money import Instant
from ...core.ports import Advance, Commit, Conflict, Event, Write
from ...core.steps import NOW, Due
from ...core.subject import STORE, Evidence, Record, Report, Status, SubjectId, essence, key

KEY_BYTES = 2000  # longer ones do not fit into an index
STRIPES = 64  # locks of those who speak and those who listen: bounded, however large a batch is
encoder = json.Encoder(order="deterministic")

Row = dict[str, Any]


class Loaded(Struct, array_like=True):
    version: int
    records: tuple[Record, ...]
    status: Status | None
    cursors: dict[str, Cursor]


class Verdict(Struct, array_like=True):
    """What became of one commit of a batch."""

    c: int
    what: str  # "" when it was written
    subject: SubjectId | None
    version: int
    account: str
    asset: str
    need: int

    def answer(self) -> int | Conflict | Overdrawn:
        match self.what:
            case "":
                return self.version
            case "overdrawn":
                return Overdrawn(self.account, self.asset, self.need)
        return Conflict(self.what, self.subject)


class Rows:
    """What up to a hundred commits of different subjects do, noun by noun."""

    def __init__(self, commits: Sequence[Commit]) -> None:
        self.nouns: dict[str, list[Row]] = {}
        self.locks: dict[str, bool] = {}  # name -> held alone
        self.advance: Row | None = None
        self.serial = 0
        for c, commit in enumerate(commits):
            for write in commit.writes:
                self.serial += 1
                self.write(c, write)
            if commit.advance:
                self.move(commit.advance)
            if d := commit.delivered:
                self.add("delivered", c=c, sink=d.sink, version=d.version, **asdict(d.subject))

    @property
    def present(self) -> frozenset[str]:
        rollback = {"rollback"} if self.advance and self.advance["above"] is not None else set()
        return frozenset(self.nouns) | ({"advance"} if self.advance else set()) | rollback

    def params(self, now: Instant) -> dict[str, str | int]:
        nouns = {"writes": [], **self.nouns, "advance": self.advance}
        return {"now": now, **{noun: encoder.encode(rows).decode() for noun, rows in nouns.items() if rows is not None}}

    def unborn(self) -> list[Row]:
        """The subjects that may not exist yet."""
        return [row for row in self.nouns.get("writes", []) if not row["expect"]]

    def locking(self) -> str:
        rows = [{"name": name, "alone": alone} for name, alone in sorted(self.locks.items())]
        return encoder.encode(rows).decode()

    def add(self, noun: str, **row: object) -> None:
        self.nouns.setdefault(noun, []).append(row)

    def lock(self, name: str, alone: bool) -> None:
        self.locks[name] = alone or self.locks.get(name, False)

    def write(self, c: int, w: Write) -> None:
        u, status = self.serial, w.status
        due = min((due.at for due in w.until or () if due.clock == NOW), default=None)
        state = {"state": status.state, "mover": status.mover.value, "status": text(status)} if status else {}
        self.add("writes", u=u, c=c, expect=w.expect, until=w.until is not None, due=due, **asdict(w.subject), **state)
        for o, record in enumerate({key(record): record for record in w.records}.values()):
            self.add("records", u=u, o=o, **record_row(record))
            if isinstance(record, Fact) and record.place:
                self.lock(f"rail/{record.rail}", alone=False)
        for clock, at in nearest(w.until or ()).items():
            parts = clock_row(clock)
            self.add("until", u=u, clock=clock, at=at, **parts)
            self.lock(clock if "of" in parts else f"rail/{parts['rail']}", alone=False)
        for name in status.names if status else ():
            self.add("names", u=u, kind=name.kind, value=name.value, is_unique=name.unique)
        for o, watch in enumerate(dict.fromkeys((*(status.watches if status else ()), *w.live))):
            self.add("watches", u=u, o=o, **asdict(watch))
            if watch.rail == STORE:
                self.lock(stripe(watch.key), alone=True)
        for o, line in enumerate(w.transfers):
            holder = line.account.removesuffix(RESERVED)
            self.add("transfers", u=u, o=o, tenant=w.subject.tenant, holder=holder, **asdict(line))
            self.lock(f"available/{w.subject.tenant}/{holder}/{line.asset}", alone=True)
        if w.event:
            of = str(w.subject)
            self.add("events", u=u, of=of, version=w.event.version, body=text(w.event), report=text(report_of(w.event)))
            self.lock(stripe(of), alone=False)
            self.lock("sinks", alone=False)

    def move(self, a: Advance) -> None:
        before = {f"from_{name}": value for name, value in asdict(a.expect).items()}
        rollback = Rollback(a.rail, a.rollback, a.cursor.branch) if a.rollback is not None else None
        said = {"key": key(rollback), "body": text(rollback)} if rollback else {}
        scanned = [asdict(watch) for watch in a.scanned if watch.rail == a.rail]
        self.advance = {"rail": a.rail, "above": a.rollback, "scanned": scanned, **asdict(a.cursor), **before, **said}
        self.lock(f"rail/{a.rail}", alone=True)


def text(body: object) -> str:
    return encoder.encode(body).decode()


def stored(name: str) -> str:
    """A record's key as PostgreSQL can hold it."""
    fits = len(name.encode()) <= KEY_BYTES and "\0" not in name
    return name if fits else "sha256/" + sha256(name.encode()).hexdigest()


def record_row(record: Record) -> Row:
    row: Row = {"key": stored(key(record)), "type": record.__struct_config__.tag, "body": text(record)}
    if isinstance(record, Fact) and record.place:
        row |= {"rail": record.rail, "position": record.place.position, "branch": record.branch}
    if not isinstance(record, Evidence):
        row["essence"] = sha256(encoder.encode(essence(record))).hexdigest()
    return row


def report_of(event: Event) -> Report:
    return Report(str(event.subject), event.version, event.state, event.mover, event.flags, event.at)


def nearest(until: Iterable[Due]) -> dict[str, int]:
    out: dict[str, int] = {}
    for due in until:
        if due.clock != NOW:
            out[due.clock] = min(due.at, out.get(due.clock, due.at))
    return out


def clock_row(clock: str) -> Row:
    """Raises ValueError for a clock that nobody moves."""
    match clock.split("/"):
        case ["available", tenant, account, asset]:
            return {"what": "available", "rail": account, "of": tenant, "asset": asset}
        case [("position" | "watermark") as what, rail]:
            return {"what": what, "rail": rail}
    raise ValueError(f"no clock {clock}")


def demand_sound(commit: Commit) -> None:
    """Before it is anybody's else but its caller's affair. Raises ValueError."""
    if len({w.subject for w in commit.writes}) < len(commit.writes):
        raise ValueError("a commit writes twice to one subject")
    for w in commit.writes:
        for clock in nearest(w.until or ()):
            clock_row(clock)


def stripe(subject: str) -> str:
    return f"reports/{crc32(subject.encode()) % STRIPES}"
