"""Which addresses of an extended public key have been given out: an index is a decision, and is never given twice.

A subject holds a page of them, so that none grows without end."""

from __future__ import annotations

from ..core.money import Instant
from ..core.ports import Controller, Seen
from ..core.steps import Step, Wait
from ..core.subject import Decision, Mover, Status, Subject

PAGE = 1_000
ISSUED = "issued"


def following(s: Subject, page: int) -> int | None:
    """The next index of this page; None when it is full."""
    n = len(s.decisions(ISSUED))
    return page * PAGE + n if n < PAGE else None


def issue(index: int, to: str, now: Instant) -> Decision:
    return Decision(ISSUED, str(index), "bursar", to, now)


def status(s: Subject) -> Status:
    return Status("issuing" if len(s.decisions(ISSUED)) < PAGE else "full", Mover.NOBODY)


def next_step(s: Subject, status: Status, seen: Seen) -> Step:
    return Wait()


controller = Controller("xpub", status, next_step)
