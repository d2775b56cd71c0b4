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
from ...core.ports import Advance, Commit, Conflict, Event, Write, reserves
from ...core.steps import NOW, Due
from ...core.subject import STORE, Evidence, Record, Report, Spec, Status, SubjectId, essence, key

KEY_BYTES = 2000  # longer ones do not fit into an index
STRIPES = 64  # locks of those who speak and those who listen: bounded, however large a batch is
NOUNS = ("writes", "records", "until", "names", "watches", "transfers", "events", "delivered")
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
    """What up to a hundred commits of different subjects do, noun by noun. `u` is a write, `c` its commit, `o` an
    order within the write."""

    def __init__(self, commits: Sequence[Commit]) -> None:
        self.nouns: dict[str, list[Row]] = {noun: [] for noun in NOUNS}
        self.locks: dict[str, bool] = {}  # name -> held alone
        self.subjects: list[SubjectId] = []
        self.unborn: list[SubjectId] = []  # those of them that are about to be declared
        self.advance: Row | None = None
        for c, commit in enumerate(commits):
            for write in commit.writes:
                self.write(len(self.subjects), c, write)
            if commit.advance:
                self.move(commit.advance)
            if d := commit.delivered:
                self.nouns["delivered"].append({"c": c, "sink": d.sink, "version": d.version, **asdict(d.subject)})

    @property
    def present(self) -> frozenset[str]:
        more = set[str]() if self.advance is None else {"advance"}
        if self.advance and self.advance["above"] is not None:
            more.add("rollback")
        return frozenset(more.union(noun for noun, rows in self.nouns.items() if rows))

    def params(self, now: Instant) -> dict[str, str | int]:
        always = {"writes": self.nouns["writes"], "subjects": self.subjects}
        given = {noun: rows for noun, rows in (*self.nouns.items(), ("advance", self.advance)) if rows}
        return {"now": now, **{noun: text(rows) for noun, rows in (always | given).items()}}

    def locking(self) -> str:
        return text([{"name": name, "alone": alone} for name, alone in sorted(self.locks.items())])

    def share(self, name: str) -> None:
        self.locks.setdefault(name, False)

    def write(self, u: int, c: int, w: Write) -> None:
        nouns, s, status = self.nouns, w.subject, w.status
        self.subjects.append(s)
        if w.expect == 0 or w.expect is None and any(isinstance(record, Spec) for record in w.records):
            self.unborn.append(s)
        row = {"u": u, "c": c, "tenant": s.tenant, "kind": s.kind, "id": s.id, "expect": w.expect}
        if w.until is not None:
            row["until"], row["due"] = True, self.sleep(u, w.until)
        if status is not None:
            row |= {"state": status.state, "mover": status.mover.value, "status": text(status)}
            nouns["names"] += [{"u": u, "kind": n.kind, "value": n.value, "is_unique": n.unique} for n in status.names]
        nouns["writes"].append(row)
        for o, (name, record) in enumerate({key(record): record for record in w.records}.items()):
            nouns["records"].append({"u": u, "o": o, **record_row(name, record)})
            if isinstance(record, Fact) and record.place:
                self.share(f"rail/{record.rail}")
        for o, watch in enumerate(dict.fromkeys((*(status.watches if status else ()), *w.live))):
            nouns["watches"].append({"u": u, "o": o, "rail": watch.rail, "key": watch.key, "since": watch.since})
            if watch.rail == STORE:
                self.locks[stripe(watch.key)] = True
        for o, line in enumerate(w.transfers):
            holder, asks = line.account.removesuffix(RESERVED), reserves(w)
            nouns["transfers"].append(
                {"u": u, "o": o, "tenant": s.tenant, "holder": holder, "asks": asks, **asdict(line)}
            )
            self.locks[f"available/{s.tenant}/{holder}/{line.asset}"] = True
        if w.event:
            of, report = str(s), text(report_of(w.event))
            said = {"u": u, "of": of, "version": w.event.version, "body": text(w.event), "report": report}
            nouns["events"].append(said)
            self.share(stripe(of))
            self.share("sinks")

    def sleep(self, u: int, until: Iterable[Due]) -> Instant | None:
        """When the clock "now" wakes it."""
        nearest = nearest_of(until)
        due = nearest.pop(NOW, None)
        for clock, at in nearest.items():
            parts = clock_row(clock)
            self.nouns["until"].append({"u": u, "clock": clock, "at": at, **parts})
            self.share(clock if "of" in parts else f"rail/{parts['rail']}")
        return due

    def move(self, a: Advance) -> None:
        before = {f"from_{name}": value for name, value in asdict(a.expect).items()}
        rollback = Rollback(a.rail, a.rollback, a.cursor.branch) if a.rollback is not None else None
        said = {"key": key(rollback), "body": text(rollback)} if rollback else {}
        scanned = [asdict(watch) for watch in a.scanned if watch.rail == a.rail]
        self.advance = {"rail": a.rail, "above": a.rollback, "scanned": scanned, **asdict(a.cursor), **before, **said}
        self.locks[f"rail/{a.rail}"] = True


def text(body: object) -> str:
    return encoder.encode(body).decode()


def record_row(name: str, record: Record) -> Row:
    if len(name) > KEY_BYTES // 4 and len(name.encode()) > KEY_BYTES or "\0" in name:  # no text of PostgreSQL's
        name = "sha256/" + sha256(name.encode()).hexdigest()
    row: Row = {"key": name, "type": record.__struct_config__.tag, "body": text(record)}
    if isinstance(record, Fact) and record.place:
        row |= {"rail": record.rail, "position": record.place.position, "branch": record.branch}
    if not isinstance(record, Evidence):
        row["essence"] = sha256(encoder.encode(essence(record))).hexdigest()
    return row


def report_of(event: Event) -> Report:
    return Report(str(event.subject), event.version, event.state, event.mover, event.flags, event.at)


def nearest_of(until: Iterable[Due]) -> dict[str, int]:
    out: dict[str, int] = {}
    for due in until:
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
    """Before it is anybody's affair but its caller's. Raises ValueError."""
    if len({w.subject for w in commit.writes}) < len(commit.writes):
        raise ValueError("a commit writes twice to one subject")
    for w in commit.writes:
        for due in w.until or ():
            if due.clock != NOW:
                clock_row(due.clock)


def stripe(subject: str) -> str:
    return f"reports/{crc32(subject.encode()) % STRIPES}"
