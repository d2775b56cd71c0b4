"""Each sentence of the port `Work` as a check: claims, records, names, clocks, money."""

from __future__ import annotations

import asyncio

from ...core.facts import Watch
from ...core.ledger import Overdrawn, transfers
from ...core.outcomes import Answer, Attempt, Done, Prepared, Terms, Verb
from ...core.ports import Conflict, Write
from ...core.steps import Due, at, at_available, at_position, at_watermark
from ...core.subject import Decision, Mover, Name, Report, Spec, Subject, SubjectId
from .stand import OTHER, SPEC, A, B, C, Stand, fact, moving, status

ATTEMPT = Attempt("pay/1", "pay", "bank", "key", Prepared("\0 é €", Terms(), "res", 9), 10, 11)


# -- Work: claims -----------------------------------------------------------------------------
async def nobody_wrote_to_it_yet(s: Stand) -> None:
    assert await s.store.load(A) == (Subject(A), {})
    assert await s.due() == []


async def who_has_waited_longest_is_claimed_first_and_by_the_clock_of_the_store(s: Stand) -> None:
    for subject, wait in ((A, 30), (B, 10), (C, 20)):
        await s.write(subject, SPEC, until=(at(s.time + wait), at(s.time + wait + 5)))
    assert await s.store.claim(9) == []
    s.time += 20
    first = await s.store.claim(1)
    assert [(claim.subject, claim.now) for claim in first] == [(B, s.time)]
    assert [claim.subject for claim in await s.store.claim(9)] == [C]


async def a_claim_spares_double_work_until_its_lease_ends(s: Stand) -> None:
    await s.commit(Write(A, (SPEC,)))
    assert await s.due() == [A]
    s.time -= 3_600_000_000
    assert await s.due() == []
    assert await s.due() == [A]


async def a_claim_that_is_over_sleeps(s: Stand) -> None:
    await s.commit(Write(A, (SPEC,)))
    await s.store.claim(1)
    await s.write(A, until=(at(s.time + 5),))
    assert await s.store.claim(1) == []
    s.time += 5
    assert await s.due() == [A]
    await s.write(A, until=())
    assert await s.due() == []


# -- Work: records ----------------------------------------------------------------------------
async def records_come_back_as_they_were_written_and_in_their_order(s: Stand) -> None:
    attempt = ATTEMPT
    decision = Decision("held", "pay/1", "me", "why", 5, 2, (("chain", 1, 2),), b"\x00", "c1")
    answer = Answer("pay/1", 0, Verb.SUBMIT, 5, Done("ref", 3))
    report = Report("t/invoice/x", 3, "open", Mover.RAIL, frozenset({"b", "a"}), 4)
    records = (SPEC, fact("m\0", 3), decision, attempt, answer, report, fact("x" * 5000))
    kept = status(flags=frozenset({"b", "a"}), parts=(("m\0", "included"),), names=(Name("ref", "1", True),))
    assert await s.write(A, *records, status=kept) == 1
    assert await s.load(A) == Subject(A, 1, records, kept)


async def whatever_is_new_raises_the_version_and_wakes_and_the_same_again_does_not(s: Stand) -> None:
    await s.write(A, SPEC)
    assert await s.version(A) == 1 and await s.due() == []
    assert await s.commit(Write(A, (fact("m"),))) == 2
    assert await s.due() == [A]
    await s.write(A)
    assert await s.commit(Write(A, (fact("m"), SPEC))) == 3
    assert await s.due() == [] and len((await s.load(A)).records) == 2


async def a_status_is_written_only_by_whoever_has_seen_all(s: Stand) -> None:
    await s.write(A, SPEC, status=status())
    await s.commit(Write(A, (fact("m"),)))
    await s.store.claim(1)
    late = Write(A, (fact("n"),), 1, status("settled"), until=())
    assert await s.commit(late) == Conflict("version", A)
    loaded = await s.load(A)
    assert (loaded.version, len(loaded.records), loaded.status) == (2, 2, status())
    assert [claim.subject for claim in await s.store.claim(1)] == [A], "who has lost keeps nobody waiting"


async def evidence_is_added_by_anybody_and_contradicts_nothing(s: Stand) -> None:
    await s.write(A, SPEC)
    lying = (
        fact("m", 3),
        fact("m", 4),
        Answer("a/1", 0, Verb.LOOKUP, 1, Done("x")),
        Answer("a/1", 0, Verb.LOOKUP, 1, Done("y")),
    )
    for record in lying:
        assert isinstance(await s.commit(Write(A, (record,))), int)
    assert (await s.load(A)).facts == lying[:2]


async def a_key_is_taken_by_what_was_said_first_not_by_when_it_was_said(s: Stand) -> None:
    said = Decision("held", "x", "me", "why", 1)
    await s.write(A, SPEC, said)
    again = Spec(1, SPEC.body, "me", 99, (("chain", 1, 1),)), Decision("held", "x", "me", "why", 2)
    assert await s.commit(Write(A, again)) == 1
    for other in (Spec(1, b"other", "me"), Decision("held", "x", "me", "no", 1)):
        assert await s.commit(Write(A, (fact("m"), other))) == Conflict("key", A)
    assert (await s.load(A)).records == (SPEC, said)


async def a_commit_is_all_or_nothing(s: Stand) -> None:
    await s.write(A, SPEC)
    child, stale = Write(B, (SPEC,)), Write(A, (fact("m"),), 0, status())
    assert await s.commit(child, stale) == Conflict("version", A)
    assert await s.load(B) == Subject(B)
    assert await s.commit(child, Write(A, (fact("m"),), 1, status(), until=())) == 2, "of the last subject written"
    assert await s.version(B) == 1


async def what_a_commit_does_to_its_own_subject_comes_after_the_version_that_it_returns(s: Stand) -> None:
    assert await s.write(A, SPEC, status=status(watches=(Watch("chain"),))) == 1
    assert await s.version(A) == 2 and await s.due() == [A], "it sees a cursor that it did not see before"


async def of_many_at_once_under_one_version_one_wins(s: Stand) -> None:
    await s.write(A, SPEC)
    rivals = [Write(A, (Decision("d", str(n), "me", "", 1),), 1, status(str(n)), until=()) for n in range(20)]
    answers = await asyncio.gather(*(s.commit(rival) for rival in rivals))
    assert sorted(answer == 2 for answer in answers) == [False] * 19 + [True]
    assert len((await s.load(A)).records) == 2


async def one_that_is_refused_stops_only_itself(s: Stand) -> None:
    many = [SubjectId("t", "invoice", f"n{n}") for n in range(60)]
    answers = await asyncio.gather(
        *(s.commit(Write(x, (SPEC,), int(n == 7), status(x.id))) for n, x in enumerate(many))
    )
    assert answers == [Conflict("version", x) if n == 7 else 1 for n, x in enumerate(many)]
    loaded = await asyncio.gather(*(s.load(x) for x in many))
    assert [x.status and x.status.state for x in loaded] == [None if n == 7 else x.id for n, x in enumerate(many)]


# -- Work: names and clocks -------------------------------------------------------------------
async def a_unique_name_is_refused_to_others_until_it_is_given_up(s: Stand) -> None:
    mine, theirs = Name("order", "7", True), Name("order", "7", False)
    await s.write(A, SPEC, status=status(names=(mine, Name("address", "x", False))))
    assert await s.write(B, SPEC, status=status(names=(mine,))) == Conflict("name", B)
    assert await s.load(B) == Subject(B)
    assert await s.write(OTHER, SPEC, status=status(names=(mine,))) == 1, "another tenant's is another name"
    await s.write(B, SPEC, status=status(names=(Name("address", "x", False),)))
    assert await s.store.find("t", "address", "x") == [A, B] and await s.store.find("t", "order", "7") == [A]
    await s.write(A, status=status())
    assert await s.write(B, status=status(names=(mine,))) == 2
    assert await s.store.find("t", "order", "7") == [B] and await s.store.find("t", "address", "x") == []
    assert await s.write(A, status=status(names=(theirs,))) == 3


async def of_many_who_want_one_name_at_once_one_gets_it(s: Stand) -> None:
    many = [SubjectId("t", "invoice", f"n{n}") for n in range(8)]
    wish = status(names=(Name("order", "7", True),))
    answers = await asyncio.gather(*(s.commit(Write(x, (SPEC,), 0, wish)) for x in many))
    won = [x for x, answer in zip(many, answers, strict=True) if answer == 1]
    assert len(won) == 1 and await s.store.find("t", "order", "7") == won
    assert all(answer in (1, Conflict("name", x)) for x, answer in zip(many, answers, strict=True))


async def a_rail_wakes_exactly_those_whose_clock_it_strikes(s: Stand) -> None:
    await s.write(A, SPEC, until=(at_position("chain", 5), at_position("chain", 7), at(2**60)))
    await s.write(B, SPEC, until=(at_position("chain", 6),))
    await s.write(C, SPEC, until=(at_watermark("chain", 50), at_watermark("lake", 1)))
    await s.move(4, 49)
    assert await s.due() == []
    await s.move(5, 49)
    assert await s.due() == [A] and await s.version(A) == 2, "a wake-up raises the version"
    await s.write(A)
    await s.move(6, 50)
    assert set(await s.due()) == {B, C}
    assert await s.version(C) == 2


async def a_clock_that_has_struck_already_wakes_at_once(s: Stand) -> None:
    await s.move(5, 50)
    for until in (at_position("chain", 5), at_watermark("chain", 50), at_available("t", "wallet:x", "BTC", 0)):
        await s.write(A, SPEC, until=(until,))
        assert await s.due() == [A]
    await s.write(A, until=(at_position("chain", 6),))
    assert await s.due() == []


async def a_clock_that_nobody_moves_is_an_error_of_whoever_named_it(s: Stand) -> None:
    fine = s.commit(Write(B, (SPEC,)))
    bad = s.commit(Write(A, (SPEC,), until=(Due("moon/full", 1),)))
    answers = await asyncio.gather(fine, bad, return_exceptions=True)
    assert answers[0] == 1 and isinstance(answers[1], ValueError)
    assert await s.version(B) == 1


async def money_that_becomes_available_wakes_who_waits_for_it(s: Stand) -> None:
    await s.write(A, SPEC, until=(at_available("t", "wallet:x", "BTC", 10),))
    await s.write(OTHER, SPEC, until=(at_available("u", "wallet:x", "BTC", 10),))
    await s.write(B, SPEC, status=moving(9))
    assert await s.due() == []
    await s.write(C, SPEC, status=moving(1))
    assert await s.due() == [A]


# -- Work: money ------------------------------------------------------------------------------
async def a_reservation_that_would_overdraw_is_refused_and_a_move_never(s: Stand) -> None:
    await s.write(A, SPEC, status=moving(10))
    asked = moving(7, "wallet:x.reserved", "payee.reserved")
    assert await s.write(B, SPEC, ATTEMPT, status=asked) == 1
    assert await s.write(C, SPEC, ATTEMPT, status=asked) == Overdrawn("wallet:x", "BTC", 7)
    assert await s.load(C) == Subject(C)
    sums = {
        ("wallet:x", "BTC"): 10,
        ("equity", "BTC"): -10,
        ("wallet:x.reserved", "BTC"): -7,
        ("payee.reserved", "BTC"): 7,
    }
    accounts = [account for account, _ in sums]
    assert await s.store.sums("t", accounts) == sums and await s.store.sums("u", accounts) == {}
    assert await s.store.sums("t", ["equity"]) == {("equity", "BTC"): -10}
    assert await s.write(C, SPEC, status=moving(99, "wallet:x", "fees")) == 1
    assert (await s.store.sums("t", ["wallet:x"]))["wallet:x", "BTC"] == -89


async def what_became_of_an_old_attempt_is_never_refused(s: Stand) -> None:
    await s.write(A, SPEC, status=moving(5))
    again = moving(7, "wallet:x.reserved", "payee.reserved")
    assert await s.write(B, SPEC, ATTEMPT, status=again) == Overdrawn("wallet:x", "BTC", 7)
    assert await s.write(B, SPEC, fact("proof"), status=again) == 1
    assert (await s.store.sums("t", ["wallet:x.reserved"]))["wallet:x.reserved", "BTC"] == -7


async def of_many_reservations_at_once_as_many_pass_as_there_is_money(s: Stand) -> None:
    await s.write(A, SPEC, status=moving(35))
    asked = moving(10, "wallet:x.reserved", "payee.reserved")
    entry = transfers((), asked.postings)
    many = [SubjectId("t", "payout", f"n{n}") for n in range(9)]
    answers = await asyncio.gather(*(s.commit(Write(x, (SPEC, ATTEMPT), 0, asked, entry)) for x in many))
    assert sorted(map(str, answers)) == ["1"] * 3 + [str(Overdrawn("wallet:x", "BTC", 10))] * 6
    assert (await s.store.sums("t", ["wallet:x.reserved"]))["wallet:x.reserved", "BTC"] == -30


async def amounts_of_any_size_are_exact(s: Stand) -> None:
    for n in range(3):
        await s.write(SubjectId("t", "balance", str(n)), SPEC, status=moving(2**200 + n))
    assert (await s.store.sums("t", ["wallet:x"]))["wallet:x", "BTC"] == 3 * 2**200 + 3


SENTENCES = tuple(thing for thing in list(globals().values()) if asyncio.iscoroutinefunction(thing))
