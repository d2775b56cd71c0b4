"""A wallet on LNbits (1.6 or later) that pays invoices: an executor. It reads no history and receives nothing.

What LNbits promises is little: a failed invoice can not be sent again, and nothing keeps another one from being paid
as well, unless its backend refuses expired invoices and the account says so. So three things decide what an answer
means (HTTP status, `status`, `detail`), and whatever is not known for certain is Unknown. One call, at most one
arrival: no layer below repeats or redirects a request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import httpx
from msgspec import DecodeError, Struct, json

from ...core.errors import RailDown
from ...core.money import Instant
from ...core.outcomes import (
    Absent,
    Attempt,
    Done,
    Effect,
    Finding,
    Outcome,
    Pay,
    Prepared,
    Rejected,
    Replace,
    Terms,
    Unknown,
)
from .bolt11 import SECOND, Bolt11, library, verify

NO_SUCH_PAYMENT = "Payment does not exist."
BEFORE = (  # what LNbits says with HTTP 400 before it has done anything; whether the same again will be refused
    ("Missing BOLT11 invoice", True),
    ("Missig invoice amount", True),
    ("It is not allowed to spend funds", True),
    ("Daily withdrawal limit", False),
)


class Account(Struct, frozen=True):
    """A wallet, and what its owner has verified of it."""

    url: str  # https://host, without /api
    key: str  # its admin key: the invoice key can not pay
    network: str = "mainnet"  # of the invoices that it pays
    refuses_expired: bool = False  # its backend was seen to refuse expired invoices, and nobody deletes its payments
    skew: Instant = 60 * SECOND  # how far the backend's clock may be from ours
    lag: Instant = 0  # how far what it shows may be behind what it does
    spare: Instant = 60 * SECOND  # an invoice that expires sooner is not begun
    timeout_seconds: int = 20  # LNbits itself waits 5 s for its backend

    def check(self, effect: Pay, now: Instant) -> str:
        """The payment hash of the invoice, if this account may be asked to pay it. Raises ValueError."""
        return self.invoice(effect, now).hash

    def invoice(self, effect: Pay, now: Instant) -> Bolt11:
        return verify(effect, self.network, now, self.skew + self.spare)


class Payload(Struct, frozen=True):
    """All that sending and asking need."""

    bolt11: str
    hash: str
    msat: int
    wallet: str  # LNbits' id of it: another wallet's silence proves nothing
    key: str  # the attempt's, kept by LNbits with the payment: somebody else's payment of the invoice is not ours


class LnbitsExecutor:
    def __init__(
        self, account: Account, now: Callable[[], Instant], transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        """`transport`: what takes the network's place in a test. Raises Explained: the library is not installed."""
        library()
        self.account, self.now = account, now
        self.client = httpx.AsyncClient(
            base_url=account.url,
            headers={"X-Api-Key": account.key},
            timeout=httpx.Timeout(account.timeout_seconds, connect=5),
            transport=transport or httpx.AsyncHTTPTransport(retries=0),
            follow_redirects=False,
        )

    async def close(self) -> None:
        await self.client.aclose()

    async def prepare(self, effect: Effect, key: str, resource: str) -> Prepared | Rejected | Unknown:
        """The invoice is exactly what is wanted, the key can pay, the wallet holds enough, and the most that it may
        charge is within the fee limit: all that is known before anything leaves. Raises RailDown."""
        if not isinstance(effect, Pay):
            return Rejected("this wallet only pays", final=True)
        account = self.account
        try:
            invoice = account.invoice(effect, self.now())
        except ValueError as err:
            return Rejected(str(err), final=True)
        wallet = await self.wallet()
        if not isinstance(wallet, tuple):
            return wallet
        id, balance = wallet
        shown = await self.shows(id)
        if isinstance(shown, Unknown):
            return shown
        if not shown:
            return Rejected("the key does not show the wallet's payments: nobody could find out about this one")
        status, body = await self.get("/api/v1/payments/fee-reserve", invoice=invoice.text)
        most = body.get("fee_reserve") if status == 200 and isinstance(body, dict) else None
        if not isinstance(most, int):
            return Unknown(f"what the wallet may charge is not known: HTTP {status}")
        if most > effect.fee:
            return Rejected(f"the wallet may charge up to {most} msat, the limit is {effect.fee}", final=True)
        if balance < effect.money.minor + most:
            return Rejected(f"the wallet holds {balance} msat, {effect.money.minor + most} are needed")
        replace = Replace.EXPIRY if account.refuses_expired else Replace.NEVER
        payload = json.encode(Payload(invoice.text, invoice.hash, effect.money.minor, id, key)).decode()
        terms = Terms(resend=False, replace=replace, skew=account.skew, lag=account.lag)
        return Prepared(payload, terms, expires_at=invoice.expires_at)

    async def submit(self, attempt: Attempt) -> Outcome:
        """Raises RailDown: it may have arrived."""
        what = json.decode(attempt.prepared.payload, type=Payload)
        wish = {"out": True, "bolt11": what.bolt11, "extra": {"bursar": what.key}}
        try:
            async with asyncio.timeout(self.account.timeout_seconds):
                response = await self.client.post("/api/v1/payments", json=wish)
        except (httpx.ConnectError, httpx.ConnectTimeout) as err:
            return Rejected(f"no connection, nothing was sent: {type(err).__name__}")
        except (httpx.HTTPError, TimeoutError) as err:
            raise RailDown(f"no answer to a payment: {type(err).__name__}") from err
        return outcome(response.status_code, body_of(response), what)

    async def lookup(self, attempt: Attempt) -> Finding:
        """Raises RailDown."""
        what, asked = json.decode(attempt.prepared.payload, type=Payload), self.now()
        status, body = await self.get(f"/api/v1/payments/{what.hash}")
        found = finding(status, body, what, asked)
        if isinstance(found, Absent) and found.why == "not found" and await self.shows(what.wallet) is not True:
            return Unknown("the key does not show the wallet that was asked to pay")
        return found

    async def shows(self, wallet: str) -> bool | Unknown:
        """Whether this key is that wallet's and sees its payments: LNbits says "not found" of all that it does not."""
        status, body = await self.get("/api/v1/payments", limit="1")
        match body:
            case [{"wallet_id": str(id)}, *_] if status == 200:
                return id == wallet
            case [] if status == 200:
                return False
        return status not in (401, 403) and Unknown(f"the wallet does not show its payments: HTTP {status}")

    async def wallet(self) -> tuple[str, int] | Rejected | Unknown:
        """Its id, and its balance in millisatoshi."""
        status, body = await self.get("/api/v1/wallet")
        match body:
            case {"id": str(id), "balance": int(balance)} if status == 200:
                return id, balance
            case {"balance": int()} if status == 200:
                return Rejected("the key can not pay: it is not the wallet's admin key", final=True)
            case {"detail": "Wallet not found."} if status == 404:
                return Rejected("no wallet has this key", final=True)
            case {"detail": str(detail)} if status in (401, 403):
                return Rejected(f"the wallet refuses the key: {detail[:200]}", final=True)
        return Unknown(f"the wallet does not answer: HTTP {status}")

    async def get(self, path: str, **query: str) -> tuple[int, Any]:
        """Raises RailDown."""
        try:
            async with asyncio.timeout(self.account.timeout_seconds):  # httpx counts from byte to byte
                response = await self.client.get(path, params=query)
        except (httpx.HTTPError, TimeoutError) as err:
            raise RailDown(f"no answer from the wallet: {type(err).__name__}") from err
        return response.status_code, body_of(response)


def body_of(response: httpx.Response) -> Any:
    """None where it is not JSON."""
    try:
        return json.decode(response.content)
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return None


def outcome(status: int, body: Any, what: Payload) -> Outcome:
    """What an answer to a payment says of that payment. Every HTTP 520 is Unknown: LNbits calls an invoice failed
    that it has paid before."""
    if not isinstance(body, dict):
        return Unknown(f"HTTP {status} without an answer that can be read")
    word, detail = body.get("status"), body.get("detail")
    if status == 201 and word == "success":
        return paid(body, body.get("preimage"), what, proof=True)
    if status in (401, 403) and word is None and isinstance(detail, str):
        return Rejected(f"the wallet refuses the key: {detail[:200]}", final=True)
    if status == 400 and word is None:  # it is also what an error in the midst of paying looks like
        if isinstance(detail, list):
            return Rejected("the wallet does not understand the request", final=True)
        for sentence, final in BEFORE:
            if isinstance(detail, str) and detail.startswith(sentence):
                return Rejected(f"the wallet refuses: {detail[:200]}", final)
    return Unknown(f"HTTP {status}, {str(word or detail)[:200]}")


def finding(status: int, body: Any, what: Payload, asked: Instant) -> Finding:
    """What an answer to a question says of a payment. `asked` is when the question left; how old the answer may be
    all the same stands in the terms."""
    match body:
        case {"detail": detail} if status == 404 and detail == NO_SUCH_PAYMENT:
            return Absent(asked)
        case {"paid": bool(yes), "details": dict(row)} if status == 200:
            pass
        case {"paid": bool()} if status == 200:
            return Unknown("the wallet shows no details: the key is not its own")
        case _:
            return Unknown(f"HTTP {status} without an answer that can be read")
    if row.get("payment_hash") != what.hash or row.get("amount") != -what.msat:
        return Unknown("the wallet shows something else than this payment")  # the invoice itself, when it is its own
    words = {row.get("status"), body.get("status", row.get("status"))}
    if yes and words == {"success"}:
        return paid(row, body.get("preimage"), what, proof=False)
    if not yes and words == {"failed"}:
        return Absent(asked, why="failed")
    return Unknown(f"the payment is {row.get('status')}")


def paid(row: dict[str, Any], preimage: Any, what: Payload, *, proof: bool) -> Done | Unknown:
    """A preimage that does not open the hash proves the contrary; without `proof` there may be none."""
    fee, extra = row.get("fee"), row.get("extra")
    if not isinstance(extra, dict) or extra.get("bursar") != what.key:
        return Unknown("the wallet has paid this invoice for somebody else")
    if not isinstance(fee, int) or isinstance(fee, bool):
        return Unknown("paid, and the wallet does not say for what fee")
    if not preimage and not proof:
        return Done(what.hash, abs(fee))
    if opens(preimage, what.hash):
        return Done(str(preimage), abs(fee))
    return Unknown("the wallet says paid, its preimage does not open the payment's hash")


def opens(preimage: Any, hash: str) -> bool:
    try:
        return sha256(bytes.fromhex(preimage)).hexdigest() == hash
    except (TypeError, ValueError):
        return False
