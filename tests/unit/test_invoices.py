"""What an invoice waits for, where a golden story can not show it."""

from __future__ import annotations

from msgspec import json

from bursar.core.facts import Cursor, Fact
from bursar.core.money import Money
from bursar.core.ports import Seen
from bursar.core.steps import Wait
from bursar.core.subject import Decision, Spec, Subject, SubjectId
from bursar.invoices import controller
from bursar.invoices.spec import SECOND, Invoice, Way, quote

WAYS = tuple(
    Way(f"BTC@{rail}", rail, "BTC", "key", "address", 8, 1, 3, 60 * SECOND, 90, 100, ("b100",)) for rail in ("a", "b")
)
HOUR = 3_600 * SECOND


def test_a_rail_that_was_read_far_enough_is_not_waited_for() -> None:
    """Else it wakes at once, again and again, for as long as the other rail is silent."""
    invoice = Invoice("BTC", "1", WAYS, 600, patience_seconds=60)
    first = quote(invoice, {}, 0)
    assert first is not None
    waiting = Fact("a", "t:0", "t", 0, 30 * SECOND, keys=("key",), money=Money("BTC", 100_000_000))
    asked = Spec(1, json.encode(invoice), "me"), Decision("quote", "", "bursar", "", 0, body=json.encode(first))
    s = Subject(SubjectId("t", "invoice", "i"), 1, (*asked, waiting))
    for read_a, read_b, clocks in ((0, 0, {"watermark/a", "watermark/b"}), (HOUR, 0, {"watermark/b"})):
        seen = Seen(HOUR, {"a": Cursor(100, (), 0, read_a), "b": Cursor(100, (), 0, read_b)})
        step = controller.next_step(s, controller.status(s), seen)
        assert isinstance(step, Wait) and {due.clock for due in step.until} == clocks
