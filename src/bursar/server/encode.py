"""One schema: how events, subjects and records look over HTTP, in files and in the library's answers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from msgspec import json

from ..core.facts import Fact, Rollback
from ..core.money import Instant, Money, text_of
from ..core.outcomes import Answer, Attempt
from ..core.ports import Event
from ..core.subject import Decision, Record, Report, Spec, Status, SubjectId
from ..invoices.reference import reference_status

Scales = Mapping[str, int]  # asset -> decimals


def instant(at: Instant) -> str:
    """ISO 8601 in UTC, to the microsecond."""
    return datetime.fromtimestamp(at // 1_000_000, UTC).replace(microsecond=at % 1_000_000).isoformat()


def money(m: Money, scales: Scales) -> dict[str, str]:
    return {"asset": m.asset, "value": money_text(m.asset, m.minor, scales)}


def money_text(asset: str, minor: int, scales: Scales) -> str:
    """Of an asset that no rail here declares, the minor units."""
    return text_of(minor, scales.get(asset, 0))


def event(e: Event) -> dict[str, Any]:
    """`id` is the same for every delivery of one transition; `version` orders those of a subject."""
    body: dict[str, Any] = {
        "id": e.id,
        "type": e.type,
        "at": instant(e.at),
        "tenant": e.subject.tenant,
        "kind": e.subject.kind,
        "subject": e.subject.id,
        "version": e.version,
        "state": e.state,
        "mover": e.mover.value,
        "flags": sorted(e.flags),
        "previous": e.previous,
        "changes": list(e.changes),
    }
    if e.subject.kind == "invoice":
        body["reference_status"] = reference_status(e.state, e.flags)
    return body


def event_line(e: Event) -> bytes:
    return json.encode(event(e))


def status(subject: SubjectId, version: int, s: Status) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": subject.id,
        "version": version,
        "state": s.state,
        "mover": s.mover.value,
        "flags": sorted(s.flags),
    }
    if subject.kind == "invoice":
        body["reference_status"] = reference_status(s.state, s.flags)
    return body


def when(record: Record) -> Instant | None:
    """When it happened, as far as it says."""
    match record:
        case Fact():
            return record.as_of
        case Answer():
            return record.asked
        case Rollback():
            return None
        case _:
            return record.at


def row(record: Record, scales: Scales) -> dict[str, Any]:
    """A record for a timeline: what it is, when, a sentence, and what it says in full."""
    at = when(record)
    return {
        "at": instant(at) if at else None,
        "type": type(record).__name__.lower(),
        "text": sentence(record, scales),
        "evidence": json.decode(json.encode(record)),
    }


def sentence(record: Record, scales: Scales) -> str:
    match record:
        case Spec():
            return f"asked for by {record.actor}" + (f", version {record.generation}" if record.generation > 1 else "")
        case Decision():
            who = "" if record.actor == "bursar" else f" by {record.actor}"
            about = f" {short(record.about)}" if record.about else ""
            return f"{record.name.replace('_', ' ')}{about}{who}: {record.reason or 'as asked'}"
        case Fact(gone=True):
            return f"{short(record.tx)} has left the mempool"
        case Fact():
            where = f"in block {record.place.position}" if record.place else "waiting for a block"
            if record.money is None:
                return f"{short(record.tx)} spends the same coins, {where}"
            return f"{money_text(record.money.asset, record.money.minor, scales)} {record.money.asset} {where}"
        case Rollback():
            return f"{record.rail} took back its blocks above {record.above}"
        case Attempt():
            return f"{record.id}: about to be sent on {record.rail}"
        case Answer():
            return f"{record.attempt}: {record.verb.value} answered {type(record.said).__name__.lower()}"
        case Report():
            return f"{record.of} is {record.state}"


def short(text: str) -> str:
    return text if len(text) <= 18 else f"{text[:8]}…{text[-8:]}"
