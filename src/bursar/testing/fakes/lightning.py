"""A Lightning node that pays, and LNbits' HTTP in front of it: for what no node at hand can be made to do on purpose.

The node's rules are those of LND (facts seen on real nodes: one record a payment hash, a failed one may be tried again,
an HTLC may hang for as long as it likes), the answers those of LNbits 1.6. It says nothing about how the real ones
behave beyond that. Time passes only when `pass_time` is called; each fault names the call that it happens to, by its
number, so a run replays. Invoices are real ones, signed by a key that everybody knows.

    front = FakeLnbits(Node(), balance_msat=10**9)
    invoice = front.node.issue(1_000_000, expiry_seconds=600)
    front.faults.append(Fault("late_request", "pay", 1, seconds=90))   # arrives when nobody waits for it any more
    executor = LnbitsExecutor(front.account, lambda: front.node.time, transport=front)
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from hashlib import sha256
from typing import Any, Literal, get_args

import bolt11
import httpx

from ...rails.lightning.lnbits import Account

SECOND = 1_000_000
BEGINS = 1_800_000_000 * SECOND
SECRET = sha256(b"everybody knows this key").hexdigest()
HTML = "<html><body><h1>502 Bad Gateway</h1></body></html>"


@lru_cache(1_000)
def read(invoice: str) -> bolt11.Bolt11:
    """Raises Bolt11Exception."""
    return bolt11.decode(invoice)


class State(Enum):
    IN_FLIGHT = "in flight"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


Fate = Literal["settle", "fail", "hang"]  # of the HTLCs of one try


@dataclass
class Payment:
    """The node's record of a hash."""

    hash: str
    msat: int
    state: State = State.IN_FLIGHT
    fee: int = 0
    reason: str = ""  # of a failure; may stand while something is in flight still
    preimage: str = ""
    tries: int = 1


class AlreadyExists(Exception):
    """The node has a record that is not failed: nothing was begun."""


class Refused(Exception):
    """Before anything was sent: no record."""


@dataclass
class Node:
    """A payer's node, the network and the payees behind it, at one time."""

    time: int = BEGINS  # ours; the node's own clock is off by `skew`
    skew: int = 0
    refuses_expired: bool = True  # phoenixd's does not
    balance_msat: int = 10**12
    network: str = "bc"
    fee: Callable[[int], int] = lambda msat: 0
    route: bool = True
    fates: dict[str, Fate] = field(default_factory=dict)  # of the next try of a hash; "settle" where none is given
    payments: dict[str, Payment] = field(default_factory=dict)
    preimages: dict[str, str] = field(default_factory=dict)
    landed: list[Payment] = field(default_factory=list)  # money that has moved: never forgotten, whatever is deleted

    def issue(self, msat: int | None, expiry_seconds: int = 600) -> str:
        """A payee's invoice."""
        preimage = sha256(f"preimage {len(self.preimages)}".encode()).digest()
        hash = sha256(preimage).hexdigest()
        self.preimages[hash] = preimage.hex()
        tags = bolt11.Tags.from_dict({"payment_hash": hash, "payment_secret": hash, "description": "work"})
        tags.add(bolt11.TagChar.expire_time, expiry_seconds)
        amount = None if msat is None else bolt11.MilliSatoshi(msat)
        return str(bolt11.encode(bolt11.Bolt11(self.network, self.time // SECOND, tags, amount), SECRET))

    def send(self, invoice: str, fee_limit: int) -> Payment:
        """Raises AlreadyExists, Refused."""
        asked = read(invoice)
        msat, old = int(asked.amount_msat or 0), self.payments.get(asked.payment_hash)
        if old is not None and old.state is not State.FAILED:
            words = {State.SUCCEEDED: "invoice is already paid", State.IN_FLIGHT: "payment is in transition"}
            raise AlreadyExists(words[old.state])
        if self.refuses_expired and self.time + self.skew > asked.expiry_time * SECOND:
            raise Refused("invoice expired")
        fee = self.fee(msat)
        payment = Payment(asked.payment_hash, msat, fee=fee, tries=old.tries + 1 if old else 1)
        self.payments[payment.hash] = payment
        if not self.route or fee > fee_limit:
            self.end(payment.hash, "fail", "NO_ROUTE")
        elif self.balance_msat < msat + fee:
            self.end(payment.hash, "fail", "INSUFFICIENT_BALANCE")
        else:
            self.end(payment.hash, self.fates.pop(payment.hash, "settle"), "TIMEOUT")
        return payment

    def end(self, hash: str, fate: Fate, reason: str = "TIMEOUT") -> None:
        """Of what is in flight. A payee takes an invoice's money once."""
        payment = self.payments[hash]
        if payment.state is not State.IN_FLIGHT:
            return
        if fate == "settle" and all(done.hash != hash for done in self.landed):
            payment.state, payment.preimage = State.SUCCEEDED, self.preimages[hash]
            self.balance_msat -= payment.msat + payment.fee
            self.landed.append(payment)
        elif fate == "hang":
            payment.reason = reason
        else:
            payment.state, payment.reason, payment.fee = State.FAILED, reason, 0

    def track(self, hash: str) -> Payment | None:
        return self.payments.get(hash)


Kind = Literal[
    "refused",  # no connection
    "lost_request",  # it never arrives, and no answer comes
    "late_request",  # it arrives after `seconds`, when nobody waits for the answer
    "twice",  # it arrives now, and once more after `seconds`
    "lost_answer",  # it arrives, the answer does not
    "html",  # a proxy's 502: it has not arrived
    "html_after",  # ... it has
    "cut",  # the answer breaks off in the middle
    "contradicts",  # the answer calls failed what has succeeded
    "hang",  # the HTLC stays in flight for `seconds`, then settles
    "hang_and_fail",  # ... then fails
    "fail",  # the HTLC fails at once
    "no_route",
    "deleted",  # somebody has deleted the node's record and LNbits' row before this call
    "forgets",  # LNbits comes up again before this call, from a backup without its newest row
]


@dataclass(frozen=True)
class Fault:
    """What goes wrong at the n-th call of this name, counted from 1."""

    kind: Kind
    call: Literal["pay", "payment", "wallet", "payments", "fee-reserve"]
    number: int
    seconds: int = 0

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"no such fault: {self.kind}")


@dataclass
class Row:
    """LNbits' own record of an outgoing payment."""

    hash: str
    bolt11: str
    msat: int
    fee: int  # the reserve, until it has succeeded
    extra: dict[str, Any]
    status: str = "pending"
    preimage: str | None = None

    def json(self) -> dict[str, Any]:
        return {
            "checking_id": self.hash,
            "payment_hash": self.hash,
            "wallet_id": "wallet-1",
            "amount": -self.msat,
            "fee": -self.fee,
            "bolt11": self.bolt11,
            "extra": self.extra,
            "status": self.status,
            "preimage": self.preimage,
        }


Reply = tuple[int, Any]


class FakeLnbits(httpx.AsyncBaseTransport):
    """The wire to an LNbits with one wallet, over a node. `calls` counts the requests of each name."""

    def __init__(self, node: Node, balance_msat: int = 10**9) -> None:
        self.node, self.balance_msat = node, balance_msat
        self.rows: dict[str, Row] = {}
        self.faults: list[Fault] = []
        self.calls: Counter[str] = Counter()
        self.late: list[tuple[int, Callable[[], object]]] = []
        self.account = Account("http://lnbits", "admin-key")

    def pass_time(self, seconds: int) -> None:
        """What is on its way arrives at its time."""
        until = self.node.time + seconds * SECOND
        while due := [entry for entry in self.late if entry[0] <= until]:
            first = min(due, key=lambda entry: entry[0])
            self.late.remove(first)
            self.node.time = max(self.node.time, first[0])
            first[1]()
        self.node.time = until

    def later(self, seconds: int, what: Callable[[], object]) -> None:
        self.late.append((self.node.time + seconds * SECOND, what))

    @property
    def available_msat(self) -> int:
        """What LNbits shows: pending payments hold their fee reserve too."""
        return self.balance_msat - sum(row.msat + row.fee for row in self.rows.values() if row.status != "failed")

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        name, run = self.route(request)
        self.calls[name] += 1
        fault = next((f for f in self.faults if (f.call, f.number) == (name, self.calls[name])), None)
        kind = fault.kind if fault else ""
        seconds = fault.seconds if fault else 0
        match kind:
            case "refused":
                raise httpx.ConnectError("connection refused", request=request)
            case "lost_request" | "late_request":
                if kind == "late_request":
                    self.later(seconds, run)
                raise httpx.ReadTimeout("no answer", request=request)
            case "html":
                return httpx.Response(502, html=HTML, request=request)
            case "twice":
                self.later(seconds, run)
            case "deleted" | "forgets" if self.rows:
                hash, _ = self.rows.popitem()
                if kind == "deleted":
                    self.node.payments.pop(hash, None)
            case "hang" | "hang_and_fail" | "fail":
                self.hang(request, kind, seconds)
            case "no_route":
                self.node.route = False
        status, body = run()
        self.node.route = True
        return self.answer(request, kind, status, body)

    def answer(self, request: httpx.Request, kind: str, status: int, body: dict[str, Any]) -> httpx.Response:
        if kind == "lost_answer":
            raise httpx.ReadTimeout("no answer", request=request)
        if kind == "html_after":
            return httpx.Response(502, html=HTML, request=request)
        if kind == "contradicts":
            body = {"paid": False, "status": "failed", "details": {**body["details"], "status": "failed"}}
        content = json.dumps(body).encode()
        return httpx.Response(status, content=content[: len(content) // 2] if kind == "cut" else content)

    def hang(self, request: httpx.Request, kind: str, seconds: int) -> None:
        hash = read(json.loads(request.content)["bolt11"]).payment_hash
        self.node.fates[hash] = "fail" if kind == "fail" else "hang"
        if kind != "fail":
            self.later(seconds, lambda: self.node.end(hash, "settle" if kind == "hang" else "fail"))

    # -- what LNbits does -------------------------------------------------------------------
    def route(self, request: httpx.Request) -> tuple[str, Callable[[], Reply]]:
        key, path = request.headers.get("x-api-key", ""), request.url.path
        if request.method == "POST" and path == "/api/v1/payments":
            wish = json.loads(request.content)
            return "pay", lambda: self.pay(key, wish)
        if path == "/api/v1/wallet":
            return "wallet", lambda: self.wallet(key)
        if path == "/api/v1/payments":
            return "payments", lambda: self.payments(key)
        if path == "/api/v1/payments/fee-reserve":
            msat = int(read(request.url.params["invoice"]).amount_msat or 0)
            return "fee-reserve", lambda: (200, {"fee_reserve": reserve(msat)})
        return "payment", lambda: self.payment(key, path.rsplit("/", 1)[1])

    def wallet(self, key: str) -> Reply:
        match key:
            case "admin-key" | "send-key":
                return 200, {"name": "w", "id": "wallet-1", "balance": self.available_msat}
            case "invoice-key":
                return 200, {"name": "w", "balance": self.available_msat}
            case "other-key":
                return 200, {"name": "another", "id": "wallet-2", "balance": 0}
        return 404, {"detail": "Wallet not found."}

    def payments(self, key: str) -> Reply:
        """The newest one: what it was funded with is older than all. A key of a wallet that is shared for sending only
        sees none, and of each it hears that it does not exist."""
        match key:
            case "admin-key" | "invoice-key":
                return 200, [[row.json() for row in self.rows.values()][-1] if self.rows else {"wallet_id": "wallet-1"}]
            case "other-key":
                return 200, [{"wallet_id": "wallet-2"}]
            case "send-key":
                return 200, []
        return self.wallet(key)

    def pay(self, key: str, wish: dict[str, Any]) -> Reply:
        if key not in ("admin-key", "send-key"):
            known = key == "invoice-key"
            return (403, {"detail": "Invoice (or Admin) key required."}) if known else self.wallet(key)
        try:
            asked = read(wish["bolt11"])
        except bolt11.Bolt11Exception:
            return failed("Bolt11 decoding failed.")
        msat, hash = int(asked.amount_msat or 0), asked.payment_hash
        if not msat:
            return failed("Amountless invoices not supported.")
        if old := self.rows.get(hash):
            return self.again(old)
        if self.available_msat < msat + reserve(msat):
            return failed("Insufficient balance.")
        row = self.rows[hash] = Row(hash, wish["bolt11"], msat, reserve(msat), wish.get("extra", {}))
        try:
            self.node.send(row.bolt11, row.fee)
        except AlreadyExists:
            pass  # ambiguous: it stays pending
        except Refused as err:
            row.status = "failed"
            return failed(f"Payment failed: {err}")
        self.refresh(row)
        return failed("Payment failed: no route.") if row.status == "failed" else (201, row.json())

    def again(self, row: Row) -> Reply:
        """A failed one is never tried again."""
        if row.status == "pending":
            return 520, {"detail": "Payment is still pending.", "status": "pending"}
        if row.status == "success":
            return 520, {"detail": "Payment already paid.", "status": "success"}
        backend = self.node.track(row.hash)
        if backend is not None and backend.state is State.SUCCEEDED:
            self.refresh(row)
            return 520, {"detail": "Failed payment was already paid on the fundingsource.", "status": "success"}
        if backend is not None and backend.state is State.FAILED:
            return failed("Payment is failed node, retrying is not possible.")
        return 201, row.json()

    def refresh(self, row: Row) -> None:
        """What the backend knows for certain; anything else stays pending."""
        backend = self.node.track(row.hash)
        if backend is not None and backend.state is State.SUCCEEDED:
            row.status, row.fee, row.preimage = "success", backend.fee, backend.preimage
        elif backend is not None and backend.state is State.FAILED and row.status == "pending":
            row.status = "failed"

    def payment(self, key: str, hash: str) -> Reply:
        row = self.rows.get(hash)
        if row is None or key == "other-key":
            return 404, {"detail": "Payment does not exist."}
        if row.status == "pending":
            self.refresh(row)
        shown: dict[str, Any] = {"paid": row.status == "success", "status": row.status, "preimage": row.preimage}
        if key in ("admin-key", "invoice-key"):
            shown["details"] = row.json()
        return 200, shown


def reserve(msat: int) -> int:
    return max(2_000, msat // 100)


def failed(detail: str) -> Reply:
    return 520, {"detail": detail, "status": "failed"}
