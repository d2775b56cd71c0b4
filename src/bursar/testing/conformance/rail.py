"""The rail conformance suite: what the port `Source` promises, tried in a world that a harness moves.

    @pytest.mark.parametrize("case", rail.cases(MyHarness.traits), ids=lambda case: case.__name__)
    def test_my_rail(case):
        with MyHarness() as harness:            # a world of its own for each case
            asyncio.run(case(harness))

A harness is the methods of `Harness`, blocking calls all of them, and `Traits` that say what its world can do: the
cases that need more are left out. A case fails with an AssertionError. The rail is driven by the real observer on the
store in memory; what every batch must obey is checked in every case (`Checked`). It sends nothing and judges no
executor."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container, Coroutine, Sequence
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from ...core.errors import RailDown
from ...core.facts import LIVE, Batch, Cursor, Fact, Standing, Stands, Watch
from ...core.money import Instant, Money
from ...core.outcomes import Unknown
from ...core.ports import Commit, Source, Write
from ...core.subject import Mover, Status, SubjectId
from ...engine.observe import Observer
from ...store.memory import MemoryStore

TURNS = 400  # in which a follower must have caught up, or recovered


class Traits(Struct, frozen=True):
    width: int  # the most blocks that one read takes
    sees_unconfirmed: bool = False  # what waits is seen
    can_reorg: bool = False  # `leave`, `back` and `outrun` are there
    can_replace: bool = False  # `replace` and `confirm` are there
    can_drop: bool = False  # `drop` is there
    troubles: tuple[str, ...] = ()  # names for `mislead`


class Payment(Struct, frozen=True):
    movement: str  # as the source will call it
    money: Money


class Harness(Protocol):
    """One world with its chain, and the only one who moves it."""

    rail: str
    traits: Traits

    def now(self) -> Instant:
        """The clock that the source reads, in microseconds; it moves with every block at least."""

    def source(self) -> Source:
        """A new adapter, as after a restart: it remembers nothing."""

    def requests(self) -> int:
        """How many have been asked of the backends, by all adapters."""

    def key(self) -> str:
        """A new key of ours, as it is watched."""

    def pay(self, key: str) -> Payment:
        """Somebody pays it: the payment waits for a block."""

    def sweep(self, key: str) -> None:
        """All that the key holds goes elsewhere: it waits for a block."""

    def mine(self, blocks: int = 1) -> None:
        """The first one takes all that waits."""

    def leave(self, blocks: int) -> None:
        """The newest blocks are left, for a longer branch without transactions; theirs wait again."""

    def back(self) -> None:
        """The branch that was left is the chain again: the very same blocks, and longer now than the other one."""

    def outrun(self, movement: str) -> None:
        """A block takes another transaction, that pays us nothing and spends what this waiting payment spends."""

    def replace(self, movement: str) -> None:
        """Such a transaction takes its place among those that wait."""

    def confirm(self, movement: str) -> None:
        """A block takes the payment although it was replaced."""

    def drop(self, movement: str) -> None:
        """It waits no longer, and time passes until its source may say so."""

    def mislead(self, trouble: str) -> None:
        """From now on the backends are in this trouble; "": in none, and all are up to date."""


class Checked:
    """A source, with what the port promises of every batch."""

    def __init__(self, harness: Harness) -> None:
        self.harness, self.source = harness, harness.source()

    async def follow(self, cursor: Cursor, keys: Container[str]) -> Batch | Unknown:
        batch = await self.source.follow(cursor, keys)
        if isinstance(batch, Batch):
            to, rollback = batch.cursor, batch.rollback
            assert (rollback is not None) == (to.branch != cursor.branch), "a rollback is what begins a branch"
            assert rollback is None or to.branch == cursor.branch + 1 and rollback < cursor.position
            base = cursor.position if rollback is None else rollback
            first = not cursor.trail
            assert first or base <= to.position <= base + self.harness.traits.width, "the width bounds a read"
            assert to.trail and to.watermark <= self.harness.now()
            for fact in batch.found:
                self.check(fact, to)
                assert fact.place is None or first or base < fact.place.position, "blocks of this read only"
                assert fact.money is None or all(key in keys for key in fact.keys)
                assert fact.place or self.harness.traits.sees_unconfirmed
            placed = [fact.movement for fact in batch.found if fact.place]
            assert len(placed) == len(set(placed)), "a movement stands in one block of a chain"
        return batch

    async def scan(self, upto: Cursor, watches: Sequence[Watch]) -> Batch | Unknown:
        assert all(watch.since != LIVE for watch in watches)
        batch = await self.source.scan(upto, watches)
        if isinstance(batch, Batch):
            assert batch.cursor == upto and batch.rollback is None, "a scan moves nothing"
            keys = {watch.key for watch in watches}
            for fact in batch.found:
                self.check(fact, upto)
                assert fact.place and keys.issuperset(fact.keys) and not fact.gone
        return batch

    def check(self, fact: Fact, to: Cursor) -> None:
        assert fact.rail == self.harness.rail and fact.branch == to.branch
        assert fact.after == 0, "the engine sets it, while routing"
        assert fact.keys or fact.spends, "whom does it concern"
        assert len(fact.keys) == 1 if fact.money else set(fact.keys) <= set(fact.spends)
        assert 0 < fact.as_of <= self.harness.now()
        if fact.place is not None:
            below = to.position - fact.place.position
            assert below >= 0 and not fact.gone
            assert below >= len(to.trail) or to.trail[-1 - below] == fact.place.hash, "on the cursor's own branch"


class Follower:
    """Observer and store; one subject for each key."""

    def __init__(self, harness: Harness) -> None:
        self.harness, self.store, self.serial = harness, MemoryStore(harness.now), 0
        self.restart()

    def restart(self) -> None:
        self.observer = Observer(self.store, self.harness.rail, Checked(self.harness))

    async def cursor(self) -> Cursor:
        return (await self.store.assignment(self.harness.rail, 0)).cursor

    async def watch(self, key: str) -> SubjectId:
        """From ten blocks below the cursor on."""
        self.serial += 1
        to = SubjectId("t", "watcher", str(self.serial))
        since = max(0, (await self.cursor()).position - 10)
        await self.watch_since(to, key, since)
        return to

    async def watch_since(self, to: SubjectId, key: str, since: int) -> None:
        status = Status("watching", Mover.RAIL, watches=(Watch(self.harness.rail, key, since),))
        await self.store.commit(Commit((Write(to, expect=0, status=status),)))

    async def catch_up(self) -> list[Batch]:
        """Turns, until one begins and ends at one position, and another one has covered what was scanned."""
        batches: list[Batch] = []
        calm = 0
        for _ in range(TURNS):
            before = await self.cursor()
            batch = await self.observer.turn()
            if isinstance(batch, Batch):
                batches.append(batch)
                calm = calm + 1 if batch.cursor.position == before.position and batch.rollback is None else 0
                if calm == 2:
                    return batches
        raise AssertionError(f"it has not caught up in {TURNS} turns: {batch}")

    async def standing(self, of: SubjectId, payment: Payment) -> Standing | None:
        subject, _ = await self.store.load(of)
        return subject.standing.get(payment.movement)

    async def stands(self, of: SubjectId, payment: Payment) -> Stands | None:
        standing = await self.standing(of, payment)
        assert standing is None or standing.fact.money == payment.money
        return standing.stands if standing else None

    async def included(self, of: SubjectId, payment: Payment) -> Fact:
        standing = await self.standing(of, payment)
        assert standing is not None and standing.stands is Stands.INCLUDED, f"{payment}: {standing}"
        assert standing.fact.money == payment.money
        return standing.fact

    async def covered(self, of: SubjectId) -> bool:
        """Does silence count for it?"""
        _, cursors = await self.store.load(of)
        return self.harness.rail in cursors


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
    if traits.can_reorg and traits.sees_unconfirmed:
        out.append(outrun_while_it_waits)
    if traits.can_replace:
        out.append(replaced_and_mined_after_all)
    if traits.can_drop:
        out.append(dropped_and_sent_again)
    if traits.troubles:
        out.append(misled)
    return out
