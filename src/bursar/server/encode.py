"""One schema: how events, subjects and records look over HTTP, in files and in the library's answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec import DecodeError, Struct, json

from ..core import ports
from ..core.facts import Fact, Rollback
from ..core.money import Amount, Instant, Money, text_of
from ..core.outcomes import Absent, Answer, Attempt, Done, Rejected, Unknown, Verb
from ..core.subject import Decision, Mover, Record, Report, Spec, Subject
from ..invoices.reference import reference_status

Scales = Mapping[str, int]  # asset -> decimals


class Event(Struct, frozen=True):
    """`id` is the same for every delivery of one transition; `version` orders those of a subject."""

    id: str
    type: str
    at: datetime
    tenant: str
    kind: str
    subject: str
    version: int
    state: str
    mover: Mover
    flags: tuple[str, ...]
    previous: str | None  # state
    changes: tuple[str, ...]  # +flag, -flag, payment=where it stands and what it counts
    reference_status: str | None  # of invoices


class Row(Struct, frozen=True):
    """A line of a timeline."""

    at: datetime | None  # None: it does not say
    type: str
    text: str
    evidence: Any


def instant(at: Instant) -> datetime:
    return datetime.fromtimestamp(at // 1_000_000, UTC).replace(microsecond=at % 1_000_000)


def value(asset: str, minor: int, scales: Scales) -> str:
    """Of an asset that no configured rail declares it says so: a guess would be wrong by powers of ten."""
    return text_of(minor, scales[asset]) if asset in scales else f"{minor} minor units"


def amount(money: Money, scales: Scales) -> Amount:
    return Amount(money.asset, value(money.asset, money.minor, scales))


def event(e: ports.Event) -> Event:
    to, flags = e.subject, tuple(sorted(e.flags))
    word = reference_status(e.state, e.flags) if to.kind == "invoice" else None
    state = e.version, e.state, e.mover, flags, e.previous, e.changes
    return Event(e.id, e.type, instant(e.at), to.tenant, to.kind, to.id, *state, word)


def event_line(e: ports.Event) -> bytes:
    return json.encode(event(e))


def timeline(subject: Subject, told: Sequence[ports.Event], scales: Scales) -> list[Row]:
    """Records and events in the order of their times; what has none stands where it was recorded."""
    rows, last = list[tuple[Instant, Row]](), 0
    for record in subject.records:
        at = when(record)
        last = at or last
        text, kind = sentence(record, scales), type(record).__name__.lower()
        rows.append((last, Row(instant(at) if at else None, kind, text, evidence(record))))
    for e in told:
        moved = [f"from {e.previous or 'nothing'} to {e.state}"] if e.previous != e.state else []
        text = ", ".join([*moved, *e.changes]).replace("_", " ")
        rows.append((e.at, Row(instant(e.at), "event", text, event(e))))
    return [row for _, row in sorted(rows, key=lambda x: x[0])]


def when(record: Record) -> Instant:
    """When it happened; 0: it does not say."""
    match record:
        case Fact():
            return record.as_of
        case Answer():
            return record.asked
        case Rollback():
            return 0
        case _:
            return record.at


def evidence(record: Record) -> Any:
    """All that it says; a body that is JSON as such."""
    said = json.decode(json.encode(record))
    if isinstance(record, Spec | Decision) and record.body:
        try:
            said["body"] = json.decode(record.body)
        except DecodeError:
            said["body"] = record.body.decode(errors="replace")
    return said


def sentence(record: Record, scales: Scales) -> str:
    match record:
        case Spec():
            return f"asked for by {record.actor}" + (f", version {record.generation}" if record.generation > 1 else "")
        case Decision():
            who = "" if record.actor == "bursar" else f" by {record.actor}"
            about = f" {short(record.about)}" if record.about else ""
            return f"{record.name.replace('_', ' ')}{about}{who}" + (f": {record.reason}" if record.reason else "")
        case Fact(gone=True):
            return f"{short(record.tx)} has left the mempool"
        case Fact(money=money):
            what = f"{value(money.asset, money.minor, scales)} {money.asset}" if money else "a rival for the same coins"
            where = f"in block {record.place.position}" if record.place else "in no block yet"
            return f"{what} by {short(record.tx)}, {where}"
        case Rollback():
            return f"{record.rail} took back its blocks above {record.above}"
        case Attempt():
            return f"{record.id} is about to be sent on {record.rail}"
        case Answer():
            asked = "was sent" if record.verb is Verb.SUBMIT else "was asked about"
            return f"{record.attempt} {asked}: {answer(record.said)}"
        case Report():
            return f"{record.of} is {record.state}"


def answer(said: Done | Rejected | Unknown | Absent) -> str:
    match said:
        case Done():
            return "done"
        case Rejected():
            return f"refused, {said.code}"
        case Unknown():
            return f"no answer, {said.reason}"
        case Absent():
            return said.why


def short(text: str) -> str:
    return text if len(text) <= 18 else f"{text[:8]}…{text[-8:]}"
