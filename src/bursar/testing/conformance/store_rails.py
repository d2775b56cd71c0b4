"""Each sentence of the ports `Rails`, `Outbox` and `Reading` as a check, and the reports among subjects."""

from __future__ import annotations

import asyncio

from ...core.facts import LIVE, Cursor, Rollback, Watch
from ...core.ports import Advance, Commit, Conflict, Delivered, Event, Write
from ...core.subject import STORE, Mover, Report, Subject, SubjectId
from .stand import OTHER, SPEC, A, B, C, Stand, event, fact, status


# -- Rails ------------------------------------------------------------------------------------
async def a_cursor_moves_only_from_where_it_was_read(s: Stand) -> None:
    first = await s.move(3, 30)
    found = Write(A, (fact("m", 4),))
    stale = Advance("chain", Cursor(), Cursor(4, ("b4",)))
    assert await s.commit(found, advance=stale) == Conflict("cursor")
    assert await s.load(A) == Subject(A) and await s.store.cursors() == {"chain": first}
    to = Cursor(4, ("b3", "b4"), 0, 40)
    assert await s.commit(found, advance=Advance("chain", first, to)) == 1
    assert (await s.load(A)).facts == found.records and await s.store.cursors() == {"chain": to}


async def a_rollback_reaches_whoever_has_a_fact_above_it_of_an_earlier_branch(s: Stand) -> None:
    for subject, seen in ((A, fact("m", 5)), (B, fact("m", 4)), (C, fact("m")), (OTHER, fact("m", 9, 0, "lake"))):
        await s.write(subject, seen)
    await s.move(5)
    await s.move(4, rollback=4)
    said = Rollback("chain", 4, 1)
    assert (await s.load(A)).records[1:] == (said,) and await s.due() == [A] and await s.version(A) == 2
    for subject in (B, C, OTHER):
        assert len((await s.load(subject)).records) == 1
    await s.write(A, fact("n", 6, 2))
    await s.move(3, rollback=3)
    assert (await s.load(A)).records[3:] == (Rollback("chain", 3, 2),)
    await s.write(C, fact("o", 6, 9))
    await s.move(2, rollback=2)
    assert len((await s.load(C)).records) == 2, "what was read on a later branch stands"


async def an_assignment_names_what_has_changed_since_it_was_last_asked_for(s: Stand) -> None:
    one, two = Watch("chain", "k", 3), Watch("chain", "live", LIVE)
    assert (await s.store.assignment("chain", 0)).version == 0
    await s.write(A, SPEC, status=status(watches=(one, two, Watch("chain"), Watch("lake", "k"))))
    first = await s.store.assignment("chain", 0)
    assert [(r.subject, r.watch, r.scanned, r.ended) for r in first.changed] == [
        (A, one, False, False),
        (A, two, True, False),
    ]
    assert first.version == first.changed[-1].version
    await s.write(B, SPEC, status=status(watches=(one,)))
    await s.write(A, status=status(watches=(two,)))
    delta = await s.store.assignment("chain", first.version)
    assert [(r.subject, r.watch, r.ended) for r in delta.changed] == [(B, one, False), (A, one, True)]
    assert (await s.store.assignment("chain", delta.version)).changed == ()
    assert {(r.subject, r.watch) for r in (await s.store.assignment("chain", 0)).changed} == {(A, two), (B, one)}


async def a_rail_is_shown_once_a_read_after_the_scan_has_moved_the_watermark(s: Stand) -> None:
    watch = Watch("chain", "k", 3)
    await s.move(5, 50)
    await s.write(A, SPEC, status=status(watches=(watch, Watch("chain", "live", LIVE))))
    assert await s.shown(A) == set()
    await s.scan(watch)
    assert not (await s.store.assignment("chain", 0)).changed[0].scanned, "no read knew of it yet"
    await s.move(6, 60)
    await s.scan(watch)
    assert await s.shown(A) == set() and await s.due() == []
    assert [r.scanned for r in (await s.store.assignment("chain", 0)).changed] == [True, True]
    await s.move(7, 70)
    assert await s.shown(A) == {"chain"} and await s.due() == [A] and await s.version(A) == 2, "becoming covered wakes"
    await s.move(8, 80)
    assert await s.version(A) == 2
    assert (await s.store.load(A))[1]["chain"].position == 8
    await s.write(A, status=status(watches=()))
    await s.write(A, status=status(watches=(watch,)))
    assert await s.shown(A) == set(), "begun again, it is scanned again"


async def who_wants_only_the_clocks_of_a_rail_sees_it_at_once(s: Stand) -> None:
    await s.move(5, 50)
    await s.write(A, SPEC, status=status(watches=(Watch("chain"), Watch("lake"))))
    assert (await s.store.load(A))[1] == {"chain": Cursor(5, ("b5",), 0, 50), "lake": Cursor()}


async def a_rival_is_watched_from_the_commit_that_found_it_until_a_status_does_without(s: Stand) -> None:
    live = Watch("chain", "coin", LIVE)
    await s.commit(Write(A, (fact("m"),), live=(live,)))
    assert [r.watch for r in (await s.store.assignment("chain", 0)).changed] == [live]
    assert await s.shown(A) == {"chain"}, "its silence says nothing, so nothing is waited for"
    await s.write(A, status=status())
    assert (await s.store.assignment("chain", 0)).changed == ()


# -- Reports ----------------------------------------------------------------------------------
def report_of(told: Event) -> Report:
    return Report(str(told.subject), told.version, told.state, told.mover, told.flags, told.at)


async def who_watches_a_subject_hears_of_its_events_in_their_commit(s: Stand) -> None:
    listens = status(watches=(Watch(STORE, str(A)),))
    await s.write(B, SPEC, status=listens)
    await s.write(C, SPEC)
    told = event(A, 1)
    await s.write(A, SPEC, status=status(), event=told)
    assert (await s.load(B)).records == (SPEC, report_of(told))
    assert await s.due() == [B] and await s.version(B) == 2 and await s.version(A) == 1
    await s.write(B, status=status())
    await s.write(A, status=status("settled"), event=event(A, 2, "settled"))
    assert len((await s.load(B)).records) == 2 and len((await s.load(C)).records) == 1


async def who_begins_to_watch_a_subject_hears_its_last_event(s: Stand) -> None:
    await s.write(A, SPEC, status=status(), event=event(A, 1))
    await s.write(A, status=status("settled"), event=event(A, 2, "settled"))
    await s.write(B, SPEC, status=status(watches=(Watch(STORE, str(A)), Watch(STORE, str(C)))))
    assert (await s.load(B)).records == (SPEC, report_of(event(A, 2, "settled"))) and await s.due() == [B]
    assert await s.version(B) == 2


async def a_report_is_not_missed_by_who_begins_to_watch_while_it_is_made(s: Stand) -> None:
    watch = status(watches=(Watch(STORE, str(A)),))
    readers = [SubjectId("t", "alert", f"n{n}") for n in range(20)]
    speaks = Write(A, (SPEC,), 0, status(), event=event(A, 1))
    await asyncio.gather(*(s.commit(w) for w in [*(Write(x, (SPEC,), 0, watch) for x in readers), speaks]))
    for reader in readers:
        assert (await s.load(reader)).reports() == [report_of(event(A, 1))], reader


# -- Outbox -----------------------------------------------------------------------------------
async def a_sink_is_owed_the_first_event_of_each_subject_that_it_has_not_confirmed(s: Stand) -> None:
    await s.store.begin("hook", whole=False)
    for subject in (A, B):
        await s.write(subject, SPEC, status=status(), event=event(subject, 1))
    await s.write(A, status=status("settled"), event=event(A, 2, "settled"))
    await s.write(C, SPEC)
    assert await s.store.undelivered("hook", 9) == [event(A, 1), event(B, 1)]
    await s.store.commit(Commit(delivered=Delivered("hook", A, 1)))
    owed = await s.store.undelivered("hook", 9)
    assert len(owed) == 2 and event(A, 2, "settled") in owed and event(B, 1) in owed
    for subject, version in ((A, 2), (A, 1), (B, 1)):  # an older word takes nothing back
        await s.store.commit(Commit(delivered=Delivered("hook", subject, version)))
    assert await s.store.undelivered("hook", 9) == []
    await s.store.begin("queue", whole=True)
    assert await s.store.undelivered("queue", 9) == [event(A, 1), event(B, 1)], "each sink for itself"
    await s.write(B, status=status("late"), event=event(B, 2, "late"))
    assert await s.store.undelivered("hook", 9) == [event(B, 2, "late")]


async def a_sink_is_owed_what_comes_from_its_beginning_on(s: Stand) -> None:
    await s.write(A, SPEC, status=status(), event=event(A, 1))
    assert await s.store.undelivered("hook", 9) == [], "nobody knows it"
    await s.store.begin("hook", whole=False)
    await s.write(A, status=status("paid"), event=event(A, 2, "paid"))
    await s.write(A, status=status("settled"), event=event(A, 3, "settled"))
    await s.write(B, SPEC, status=status(), event=event(B, 1))
    for whole in (True, False):
        await s.store.begin("hook", whole=whole)
        assert await s.store.undelivered("hook", 9) == [event(A, 2, "paid"), event(B, 1)], "it begins once"


async def what_a_sink_refuses_of_one_subject_starves_nobody(s: Stand) -> None:
    many = [SubjectId("t", "invoice", f"n{n}") for n in range(4)]
    await s.store.begin("hook", whole=False)
    for subject in many:
        await s.write(subject, SPEC, status=status(), event=event(subject, 1))
    asked = [await s.store.undelivered("hook", 2) for _ in range(2)]
    assert {told.subject for events in asked for told in events} == set(many)


# -- Reading ----------------------------------------------------------------------------------
async def pages_list_the_newest_first_by_who_must_move(s: Stand) -> None:
    movers = [Mover.PAYER, Mover.RAIL, Mover.PAYER, Mover.OPERATOR]
    many = [SubjectId("t", "invoice", f"n{n}") for n in range(4)]
    for subject, mover in zip(many, movers, strict=True):
        await s.write(subject, SPEC, status=status("open", mover))
    await s.write(OTHER, SPEC, status=status())
    await s.write(SubjectId("t", "payout", "x"), SPEC, status=status())
    await s.commit(Write(C, (SPEC,)))
    await s.write(many[0], fact("m"))
    page = await s.store.page("t", "invoice", list(Mover), 2**60, 3)
    assert [(x.subject, x.version, x.status.mover) for x in page] == [(many[n], 1, movers[n]) for n in (3, 2, 1)]
    rest = await s.store.page("t", "invoice", list(Mover), page[-1].serial, 3)
    assert [(x.subject, x.version) for x in rest] == [(many[0], 2)]
    mine = await s.store.page("t", "invoice", {Mover.PAYER, Mover.OPERATOR}, 2**60, 9)
    assert [x.subject for x in mine] == [many[3], many[2], many[0]]


async def events_have_numbers_and_nobody_sees_another_tenants(s: Stand) -> None:
    for n, subject in enumerate((A, B, OTHER, A)):
        version = 1 if n < 3 else 2
        await s.write(subject, status=status(str(n)), event=event(subject, version, str(n)))
    told = await s.store.events("t", 0, 9)
    assert [(e.subject, e.version) for _, e in told] == [(A, 1), (B, 1), (A, 2)]
    assert [n for n, _ in told] == sorted({n for n, _ in told})
    assert await s.store.events("t", told[0][0], 1) == [told[1]]
    assert len(await s.store.events("u", 0, 9)) == 1


async def what_was_told_of_one_subject_is_there_at_once(s: Stand) -> None:
    for version in (1, 2, 3):
        await s.write(A, status=status(str(version)), event=event(A, version, str(version)))
        await s.write(OTHER, status=status(str(version)), event=event(OTHER, version, str(version)))
    assert [e.version for e in await s.store.told(A, 0, 9)] == [1, 2, 3]
    assert await s.store.told(A, 1, 1) == [event(A, 2, "2")] and await s.store.told(B, 0, 9) == []


async def a_reader_that_goes_by_the_numbers_misses_no_event(s: Stand) -> None:
    many = [SubjectId("t", "invoice", f"n{n}") for n in range(60)]
    told: list[tuple[int, Event]] = []

    async def write(subject: SubjectId) -> None:
        for version in (1, 2, 3):
            await s.write(subject, status=status(str(version)), event=event(subject, version))

    async def read() -> None:
        for _ in range(200):
            told.extend(await s.store.events("t", told[-1][0] if told else 0, 7))
            if len(told) == 180:
                return
            await asyncio.sleep(0)

    await asyncio.gather(*(write(subject) for subject in many), read())
    told.extend(await s.store.events("t", told[-1][0] if told else 0, 1000))
    assert len(told) == 180 and len({e.id for _, e in told}) == 180
    for subject in many:
        assert [e.version for _, e in told if e.subject == subject] == [1, 2, 3]


SENTENCES = tuple(thing for thing in list(globals().values()) if asyncio.iscoroutinefunction(thing))
