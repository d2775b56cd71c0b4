"""Entries by hand: opening balances, top-ups, corrections. A subject like any other, for there is no other way into
the ledger."""

from __future__ import annotations

from msgspec import Struct, json

from .core.ledger import Line, Posting
from .core.ports import Controller, Seen
from .core.steps import Step, Wait
from .core.subject import Mover, Status, Subject


class Balance(Struct, frozen=True):
    lines: tuple[Line, ...]
    reason: str = ""


def status(s: Subject) -> Status:
    lines = json.decode(s.spec.body, type=Balance).lines
    return Status("settled", Mover.NOBODY, postings=(Posting("entry", lines),))


def next_step(s: Subject, status: Status, seen: Seen) -> Step:
    return Wait()


controller = Controller("balance", status, next_step)
