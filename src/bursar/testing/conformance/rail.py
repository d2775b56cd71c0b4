"""The rail conformance suite: what the port `Source` promises, tried in a world that a harness moves.

    @pytest.mark.parametrize("case", rail.cases(MyHarness.traits), ids=lambda case: case.__name__)
    def test_my_rail(case):
        with MyHarness() as harness:            # a world of its own for each case
            asyncio.run(case(harness))

What a harness is stands in `rail_harness`; the cases that need more than its traits are left out. A case fails with an
AssertionError; what every batch must obey is checked in every case. Nothing is sent, and no executor is judged."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine

from msgspec.structs import replace

from ...core.errors import RailDown
from ...core.facts import Batch, Stands, Watch
from ...core.money import Instant
from ...core.outcomes import Unknown
from ...core.ports import Advance, Commit
from ...core.subject import SubjectId
from ...engine.observe import rebased
from .rail_harness import Follower as Follower
from .rail_harness import Harness as Harness
from .rail_harness import Payment as Payment
from .rail_harness import Traits as Traits


async def watching(h: Harness) -> tuple[Follower, str, SubjectId]:
    """A follower at the tip with one key covered."""
    follower, key = Follower(h), h.key()
    await follower.catch_up()
    subject = await follower.watch(key)
    for _ in range(3):
        h.mine()
        await follower.catch_up()
    assert await follower.covered(subject), "three blocks after its registration a watch is covered"
    return follower, key, subject


Case = Callable[[Harness], Coroutine[None, None, None]]


async def seen_and_included(h: Harness) -> None:
    follower, key, subject = await watching(h)
    payments = [h.pay(key), h.pay(key)]
    await follower.catch_up()
    waiting = Stands.PENDING if h.traits.sees_unconfirmed else None
    assert [await follower.stands(subject, payment) for payment in payments] == [waiting, waiting]
    h.mine()
    await follower.catch_up()
    facts = [await follower.included(subject, payment) for payment in payments]
    place = facts[0].place
    assert place is not None and place == facts[1].place and place.hash == (await follower.cursor()).trail[-1]
    assert all(fact.tx in fact.movement and fact.spends and fact.keys == (key,) for fact in facts)
    assert await follower.covered(subject)


async def left_and_back_in_the_same_block(h: Harness) -> None:
    follower, key, subject = await watching(h)
    payment = h.pay(key)
    h.mine(2)
    await follower.catch_up()
    before, branch = (await follower.included(subject, payment)).place, (await follower.cursor()).branch
    h.leave(2)
    await follower.catch_up()
    assert await follower.stands(subject, payment) in (Stands.PENDING, Stands.ADRIFT)
    assert (await follower.cursor()).branch > branch
    h.back()
    await follower.catch_up()
    assert (await follower.included(subject, payment)).place == before
    h.mine()
    await follower.catch_up()
    assert (await follower.included(subject, payment)).place == before


async def mined_again_in_another_block(h: Harness) -> None:
    follower, key, subject = await watching(h)
    payment = h.pay(key)
    h.mine()
    await follower.catch_up()
    before = (await follower.included(subject, payment)).place
    h.leave(1)
    h.mine()
    follower.restart()
    await follower.catch_up()
    assert (await follower.included(subject, payment)).place != before


async def forked_below_the_trail(h: Harness) -> None:
    """It is not followed, until a person says from where."""
    follower, key, subject = await watching(h)
    payment = h.pay(key)
    h.mine()
    await follower.catch_up()
    before = (await follower.included(subject, payment)).place
    assert before is not None
    h.leave(1)
    h.mine()
    here = await follower.cursor()
    lost = replace(here, trail=tuple(hash[::-1] for hash in here.trail))
    await follower.store.commit(Commit(advance=Advance(h.rail, here, lost)))
    assert isinstance(await follower.observer.turn(), Unknown)
    await follower.store.commit(Commit(advance=rebased(h.rail, lost, before.position - 1)))
    assert await follower.stands(subject, payment) is Stands.ADRIFT
    await follower.catch_up()
    assert (await follower.included(subject, payment)).place != before


async def displaced_by_a_rival(h: Harness) -> None:
    follower, key, subject = await watching(h)
    payment = h.pay(key)
    h.mine()
    await follower.catch_up()
    await follower.included(subject, payment)
    h.leave(1)
    h.outrun(payment.movement)
    await follower.catch_up()
    assert await follower.stands(subject, payment) is Stands.DISPLACED


async def outrun_while_it_waits(h: Harness) -> None:
    follower, key, subject = await watching(h)
    seen, unseen = h.pay(key), None
    await follower.catch_up()
    assert await follower.stands(subject, seen) is Stands.PENDING
    h.outrun(seen.movement)
    await follower.catch_up()
    assert await follower.stands(subject, seen) is Stands.DISPLACED
    unseen = h.pay(key)
    h.outrun(unseen.movement)  # some nodes show the payment still: both are in one batch
    await follower.catch_up()
    assert await follower.stands(subject, unseen) in (None, Stands.DISPLACED)


async def replaced_and_mined_after_all(h: Harness) -> None:
    follower, key, subject = await watching(h)
    payment = h.pay(key)
    await follower.catch_up()
    assert await follower.stands(subject, payment) is Stands.PENDING
    h.replace(payment.movement)
    await follower.catch_up()
    assert await follower.stands(subject, payment) is Stands.DISPLACED
    h.confirm(payment.movement)
    await follower.catch_up()
    await follower.included(subject, payment)


async def dropped_and_sent_again(h: Harness) -> None:
    follower, key, subject = await watching(h)
    payment = h.pay(key)
    await follower.catch_up()
    assert await follower.stands(subject, payment) is Stands.PENDING
    h.drop(payment.movement)
    await follower.catch_up()
    assert await follower.stands(subject, payment) is Stands.GONE
    h.confirm(payment.movement)
    await follower.catch_up()
    await follower.included(subject, payment)


async def received_and_swept_while_nobody_looked(h: Harness) -> None:
    follower, key, subject = await watching(h)
    payment = h.pay(key)
    h.mine()
    h.sweep(key)
    h.mine(2)
    follower.restart()
    await follower.catch_up()
    await follower.included(subject, payment)


async def caught_up_step_by_step(h: Harness) -> None:
    follower, key, subject = await watching(h)
    payments = []
    for _ in range(3):
        payments.append(h.pay(key))
        h.mine(h.traits.width)
    before = (await follower.cursor()).position
    follower.restart()
    batches = await follower.catch_up()
    assert len({batch.cursor.position for batch in batches}) >= 3
    assert batches[-1].cursor.position == before + 3 * h.traits.width
    for payment in payments:
        await follower.included(subject, payment)


async def registered_late(h: Harness) -> None:
    """A young watch, an old one, and one that never was paid: what they missed is scanned for, and silence counts
    for none before."""
    follower, _, _ = await watching(h)
    start = (await follower.cursor()).position
    keys = [h.key(), h.key(), h.key()]
    old = h.pay(keys[0])
    h.mine()
    h.sweep(keys[0])
    h.mine(40)
    young = h.pay(keys[1])
    h.mine()
    await follower.catch_up()
    subjects = [SubjectId("t", "watcher", name) for name in ("old", "young", "unpaid")]
    for subject, key, since in zip(subjects, keys, (start, start + 38, start), strict=True):
        await follower.watch_since(subject, key, since)
        assert not await follower.covered(subject)
    for _ in range(3):
        h.mine()
        await follower.catch_up()
    await follower.included(subjects[0], old)
    await follower.included(subjects[1], young)
    assert all([await follower.covered(subject) for subject in subjects])
    assert not (await follower.store.load(subjects[2]))[0].facts


async def a_cursor_of_another_chain(h: Harness) -> None:
    """Nothing follows from it: no rollback to nowhere, and no silence."""
    follower, key, _ = await watching(h)
    here = await follower.cursor()
    alien = tuple(hash[::-1] for hash in here.trail)
    for cursor in (replace(here, trail=alien), replace(here, position=here.position + 1_000)):
        assert isinstance(await asked(h.source().follow(cursor, {key})), Unknown)
        watch = Watch(h.rail, key, max(0, cursor.position - 2))
        assert isinstance(await asked(h.source().scan(cursor, [watch])), Unknown)


async def asked(read: Awaitable[Batch | Unknown]) -> Batch | Unknown:
    try:
        return await read
    except RailDown as err:
        return Unknown(str(err))


async def as_many_requests_for_any_number_of_keys(h: Harness) -> None:
    follower, key, _ = await watching(h)
    start = await follower.cursor()
    for _ in range(2):
        h.pay(key)
        h.mine()
    asked_for = []
    for count in (100, 10_000):
        keys, before = {key, *map(str, range(count - 1))}, h.requests()
        batch = await h.source().follow(start, keys)
        assert isinstance(batch, Batch) and len([fact for fact in batch.found if fact.money]) == 2
        asked_for.append(h.requests() - before)
    few, many = asked_for
    assert few > 0 and abs(many - few) <= few / 10, f"{few} requests for 100 keys, {many} for 10,000"


async def misled(h: Harness) -> None:
    """Whatever the backends say: a watermark never passes a payment that is not recorded, and all is found once they
    are well."""
    follower, key, subject = await watching(h)
    for trouble in h.traits.troubles:
        late, seen = h.key(), list[tuple[Instant, bool, bool]]()
        other = await follower.watch(late)  # its scan is misled too
        h.mislead(trouble)
        paid_at = h.now()
        payments = [h.pay(key), h.pay(late)]
        for _ in range(12):
            h.mine()
            await follower.observer.turn()
            mark = (await follower.cursor()).watermark
            here = [await follower.standing(of, p) for of, p in zip((subject, other), payments, strict=True)]
            seen += [
                (mark, here[0] is not None, True),
                (mark, here[1] is not None, await follower.covered(other)),
            ]
        h.mislead("")
        for _ in range(3):
            h.mine()
            await follower.catch_up()
        facts = [await follower.included(of, p) for of, p in zip((subject, other), payments, strict=True)]
        for n, (mark, recorded, covered) in enumerate(seen):
            place = facts[n % 2].place
            assert place is not None
            arrived = paid_at if h.traits.sees_unconfirmed else place.at
            assert recorded or not covered or mark < arrived, f"{trouble}: silence was believed"


def cases(traits: Traits) -> list[Case]:
    """Those that this world can be put through."""
    out: list[Case] = [
        seen_and_included,
        received_and_swept_while_nobody_looked,
        caught_up_step_by_step,
        registered_late,
        a_cursor_of_another_chain,
        as_many_requests_for_any_number_of_keys,
    ]
    if traits.can_reorg:
        out += [left_and_back_in_the_same_block, mined_again_in_another_block, displaced_by_a_rival]
        out.append(forked_below_the_trail)
    if traits.can_reorg and traits.sees_unconfirmed:
        out.append(outrun_while_it_waits)
    if traits.can_replace:
        out.append(replaced_and_mined_after_all)
    if traits.can_drop:
        out.append(dropped_and_sent_again)
    if traits.troubles:
        out.append(misled)
    return out
