"""Entries by hand: opening balances, top-ups, corrections. A subject like any other, for there is no other way into
the ledger."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, json

from .core.ledger import Line, Posting
from .core.money import Amount, Money
from .core.ports import Controller, Seen
from .core.steps import Step, Wait
from .core.subject import Mover, Status, Subject


class Balance(Struct, frozen=True):
    lines: tuple[Line, ...]
    reason: str = ""


class EnterBalance(Struct, frozen=True, forbid_unknown_fields=True):
    """What has come into a wallet, or left it, past Bursar."""

    rail: str
    amount: Amount
    reason: str
    direction: Literal["in", "out"] = "in"
    external_id: str = ""


def entered(account: str, money: Money, request: EnterBalance) -> Balance:
    minor = money.minor if request.direction == "in" else -money.minor
    return Balance((Line(account, money.asset, minor), Line("equity", money.asset, -minor)), request.reason)


def status(s: Subject) -> Status:
    lines = json.decode(s.spec.body, type=Balance).lines
    return Status("settled", Mover.NOBODY, postings=(Posting("entry", lines),))


def next_step(s: Subject, status: Status, seen: Seen) -> Step:
    return Wait()


controller = Controller("balance", status, next_step)
