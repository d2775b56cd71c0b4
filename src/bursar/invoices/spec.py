"""What an invoice wants: a price, the ways in which it may be paid, and how it is judged. Frozen at its declaration."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from functools import lru_cache

from msgspec import Struct, json

from ..core.money import Instant, minor_of

MILLION = 1_000_000
SECOND = 1_000_000


class Way(Struct, frozen=True):
    """One asset on one rail, paid to one key of ours."""

    name: str  # asset@rail
    rail: str
    asset: str
    key: str  # what is watched: a script, an address
    address: str  # as it is shown
    scale: int  # decimals of the asset
    step: int  # the smallest amount that the rail moves, in minor units
    confirmations: int
    grace: Instant  # how long inclusion may take: a payment is not late for the rail's own delay
    since: int  # blocks are scanned from here: the position at declaration less the reorg depth
    position: int  # of the rail's cursor at declaration: what stood in a block by then is not for us ...
    trail: tuple[str, ...]  # ... which of the last blocks these were; those below can not be disconnected


class Invoice(Struct, frozen=True):
    price_asset: str
    price_value: str  # exact decimal text
    ways: tuple[Way, ...]
    window_seconds: int
    tolerance_ppm: int = 0  # settled by this much less
    over_ppm: int = 0  # more than this above is an overpayment
    repricings: int = 0  # new quotes, each with a window of its own, while nothing has been paid
    patience_seconds: int = 86_400  # past the deadline, before a payment without a block is shown to a person
    external_id: str = ""
    metadata: dict[str, str] = {}
    preset: str = ""
    request: str = ""  # digest of the words that it was asked for in: the same again is the same invoice

    def way(self, rail: str, keys: tuple[str, ...]) -> list[Way]:
        """The ways that one payment could be: more than one where assets share an address."""
        return [way for way in self.ways if way.rail == rail and way.key in keys]


class Quote(Struct, frozen=True):
    """A decision: what each way costs from `at` on, until the next quote; the last one's `expires_at` is the end."""

    at: Instant
    expires_at: Instant
    expected: dict[str, int]  # way -> minor units, a multiple of its step
    prices: dict[str, str] = {}  # way -> units of the price's asset for one of the way's, as they were used


@lru_cache(4096)
def invoice_of(body: bytes) -> Invoice:
    return json.decode(body, type=Invoice)


@lru_cache(4096)
def quote_of(body: bytes) -> Quote:
    return json.decode(body, type=Quote)


def quote(invoice: Invoice, prices: Mapping[str, str], now: Instant) -> Quote | None:
    """Prices: "ADA/EUR" -> decimal text. None where a price is missing or makes no sense. What is due is rounded up
    to the way's step."""
    expected, used = dict[str, int](), dict[str, str]()
    for way in invoice.ways:
        price = "1" if way.asset == invoice.price_asset else prices.get(f"{way.asset}/{invoice.price_asset}")
        if price is None or Fraction(price) <= 0:
            return None
        used[way.name] = price
        exact = Fraction(invoice.price_value) / Fraction(price) * 10**way.scale
        expected[way.name] = int(-(-exact // way.step)) * way.step
    return Quote(now, now + invoice.window_seconds * SECOND, expected, used)


class Preset(Struct, frozen=True):
    tolerance_ppm: int = 0
    over_ppm: int = 0
    window_seconds: int = 900
    repricings: int = 0


PRESETS = {
    "": Preset(),
    "cardano-checkout": Preset(tolerance_ppm=20_000, over_ppm=20_000, window_seconds=900, repricings=3),
}


def check(invoice: Invoice) -> None:
    """Raises ValueError with a sentence: bounds that no invoice may leave."""
    minor_of(invoice.price_value, 30)
    if not invoice.ways:
        raise ValueError("an invoice needs a way to be paid")
    if len({way.name for way in invoice.ways}) < len(invoice.ways):
        raise ValueError("a way is named twice")
    if not 60 <= invoice.window_seconds <= 30 * 86_400:
        raise ValueError("window_seconds must be from 60 to 2,592,000")
    if not 0 <= invoice.tolerance_ppm <= 50_000:
        raise ValueError("tolerance_ppm must be from 0 to 50,000 (5 %)")
    if not 0 <= invoice.over_ppm <= MILLION:
        raise ValueError("over_ppm must be from 0 to 1,000,000")
