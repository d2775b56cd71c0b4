"""A hostile Koios on 127.0.0.1: several backends on different tips and forks behind one name, limits, faults on demand.

The ledger rules are those of scalus (`koios_ledger`), the rows those of Koios' SQL (`koios_rows`), the query string
that of PostgREST (`koios_rest`); what is ours is the hostility. Every throw of the dice follows from the seed, the
call's name and how many calls of that name came before, so a failing run replays. Limits go by the chain's clock, which
the test sets. No `/submittx`: wallets pay on the chain itself.

    with closing(Ledger()) as ledger:
        chain = Chain(ledger, seed=7)
        shop, alice = Wallet(chain, "shop"), Wallet(chain, "alice")
        chain.faucet.pay(Pay(alice.address, 10**9))
        chain.mine(12)
        with Koios(chain, [Backend("a"), Backend("b", lag_blocks=10)], seed=7) as koios:
            alice.pay(Pay(shop.address, 5_000_000))
            chain.mine()
            koios.faults.append(Fault("html", "address_utxos", first=2, last=3))
            for _ in range(9):                      # rows, HTML, and empty arrays of the backend that lags
                print(httpx.post(koios.url + "/address_utxos", json={"_addresses": [shop.address]}).text)
            chain.rollback(1)                       # the payment waits again
            chain.mine(2)                           # and stands in another block
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import threading
import traceback
from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal, NamedTuple, Self, get_args
from urllib.parse import parse_qsl, urlsplit

from bursar.testing.fakes.koios_chain import MAIN, Block, Chain, digest
from bursar.testing.fakes.koios_rest import Refusal, arguments, no_function, shape
from bursar.testing.fakes.koios_rows import CALLS, Call, Registry, Row, View

BASE = "/api/v1"
BODY_BYTES, BODY_BYTES_REGISTERED = 1_024, 5_120
BURST_SECONDS, PAUSE_SECONDS, QUERY_SECONDS = 10, 60, 30
HTML = b"<html><head><title>%d</title></head><body><center><h1>%d</h1></center><hr>nginx</body></html>"

Kind = Literal[
    "empty",  # 200 and no rows (K4)
    "html",  # 502 in HTML, as of a proxy
    "database",  # 503 in JSON, code 08006 (K9)
    "limit",  # 429 in HTML, and the 60 s pause begins (K10)
    "timeout",  # 504 in HTML, after 30 s of the chain's clock
    "truncated",  # 200, and the JSON stops in the middle
    "object",  # 200, and a JSON object where an array belongs
    "nulls",  # 200, and `asset_list` null although asked for (K1)
    "duplicates",  # 200, and every row twice
    "short",  # 200, and the last row is not there
    "reset",  # the connection is reset
    "drip",  # the answer comes in pieces over `seconds` of real time
    "hang",  # nothing comes, for `seconds` of real time; then the connection closes
]


@dataclass
class Backend:
    """One of the databases behind the name: the branch that it follows, and how far behind."""

    name: str
    branch: str = MAIN
    lag_blocks: int = 0


@dataclass(frozen=True)
class Fault:
    """What goes wrong: at calls `first` to `last` of a name, counted from 1 ("*": any name, each by its own count).

    `backend` limits it to answers of one backend, `one_in` to one call of so many, by the dice.
    """

    kind: Kind
    call: str = "*"
    first: int = 1
    last: int | None = None
    backend: str = "*"
    one_in: int = 1
    seconds: float = 1

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind) or self.call not in ("*", *CALLS):
            raise ValueError(f"no such fault: {self.kind} at {self.call}")


class Asked(NamedTuple):
    """One request and what became of it: for messages of tests, and to see that two runs are the same."""

    call: str
    number: int
    backend: str
    fault: str
    status: int


@dataclass
class Answer:
    """What goes over the wire, and how."""

    status: int
    body: bytes = b""
    content_type: str = "text/html"
    headers: dict[str, str] = field(default_factory=dict)
    manner: str = ""  # "", "reset", "drip" or "hang"
    seconds: float = 0


class Koios:
    """`calls` counts requests by name, `log` has the last 10,000; `faults` and `backends` are yours to change.

    `burst`: requests of one name within 10 s before 429 for 60 s.
    """

    def __init__(self, chain: Chain, backends: Sequence[Backend], *, seed: int, burst: int = 100) -> None:
        self.chain, self.backends, self.seed, self.burst = chain, list(backends), seed, burst
        self.faults: list[Fault] = []
        self.registry = Registry()
        self.calls: Counter[str] = Counter()
        self.log: deque[Asked] = deque(maxlen=10_000)
        self.closing = threading.Event()
        self._recent: defaultdict[str, deque[float]] = defaultdict(deque)
        self._paused: dict[str, float] = {}
        self._views: dict[str, View] = {}
        self._server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"koios": self}))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}{BASE}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening; a connection that is still open gets no more answers."""
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def tip(self, backend: Backend) -> Block:
        """The block that a backend takes for the newest."""
        return self.chain.tips[backend.branch].up(backend.lag_blocks)

    def answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Answer:
        """One request to its answer. `headers` have names in lower case."""
        url = urlsplit(target)
        name = url.path.removeprefix(BASE + "/")
        call = CALLS.get(name)
        with self.chain.lock:
            if not call or call.method != method:
                return _refused(no_function(name))
            self.calls[name] += 1
            number = self.calls[name]
            backend = self.backends[self._dice("backend", name, number) % len(self.backends)]
            fault = next((f for f in self.faults if self._strikes(f, name, number, backend)), None)
            answer = self._limited(name, headers, body) or self._failed(name, fault)
            if not answer:
                try:
                    rows = self._rows(backend, call, arguments(name, call, body))
                    query = parse_qsl(url.query, keep_blank_values=True)
                    answer = _spoiled(shape(rows, call, query, headers.get("prefer", "")), fault)
                except Refusal as refusal:
                    answer = _refused(refusal)
            self.log.append(Asked(name, number, backend.name, fault.kind if fault else "", answer.status))
            return answer

    def _dice(self, *what: object) -> int:
        return int.from_bytes(digest(self.seed, *what, size=8))

    def _strikes(self, fault: Fault, name: str, number: int, backend: Backend) -> bool:
        return (
            fault.call in ("*", name)
            and fault.backend in ("*", backend.name)
            and fault.first <= number <= (fault.last or number)
            and self._dice("fault", fault.kind, name, number) % fault.one_in == 0
        )

    def _limited(self, name: str, headers: dict[str, str], body: bytes) -> Answer | None:
        """413 and 429, as the proxy in front says them."""
        now, recent = self.chain.clock.now, self._recent[name]
        if now < self._paused.get(name, 0):
            return _html(429)
        while recent and recent[0] <= now - BURST_SECONDS:
            recent.popleft()
        recent.append(now)
        if len(recent) > self.burst:
            self._paused[name] = now + PAUSE_SECONDS
            return _html(429)
        registered = headers.get("authorization", "").startswith("Bearer ")
        return Answer(413) if len(body) > (BODY_BYTES_REGISTERED if registered else BODY_BYTES) else None

    def _failed(self, name: str, fault: Fault | None) -> Answer | None:
        """The faults that leave no rows."""
        match fault.kind if fault else "":
            case "html":
                return _html(502)
            case "database":
                return _refused(Refusal(503, "08006", "could not connect to server"))
            case "limit":
                self._paused[name] = self.chain.clock.now + PAUSE_SECONDS
                return _html(429)
            case "timeout":
                self.chain.clock.now += QUERY_SECONDS
                return _html(504)
            case "empty":
                return _json([])
            case "object":
                return _json({"message": "no array here"})
            case "reset" | "hang" as manner:
                return Answer(0, manner=manner, seconds=fault.seconds if fault else 0)
        return None

    def _rows(self, backend: Backend, call: Call, args: Row) -> list[Row]:
        """What the backend has, in its own order."""
        try:
            rows = call.rows(self._view(backend), args)
        except (ValueError, TypeError) as error:  # an argument of the right type that PostgreSQL could not read
            raise Refusal(400, "22P02", f"invalid input syntax: {error}") from None
        if call.order != "given":
            rows.sort(key=lambda row: digest(self.seed, backend.name, *map(str, row.values())))
        if call.order == "height":
            rows.sort(key=lambda row: -row["block_height"])
        return rows

    def _view(self, backend: Backend) -> View:
        tip = self.tip(backend)
        if tip.hash not in self._views:
            while len(self._views) > 8:
                del self._views[next(iter(self._views))]
            self._views[tip.hash] = View(tip, self.registry)
        return self._views[tip.hash]


def _json(value: object, status: int = 200) -> Answer:
    return Answer(status, json.dumps(value).encode(), "application/json; charset=utf-8")


def _html(status: int) -> Answer:
    return Answer(status, HTML % (status, status))


def _refused(refusal: Refusal) -> Answer:
    return Answer(refusal.status, refusal.body(), "application/json; charset=utf-8")


def _spoiled(shaped: tuple[int, str, list[Row]], fault: Fault | None) -> Answer:
    """The page as JSON, with the faults that a page can have."""
    status, span, page = shaped
    kind = fault.kind if fault else ""
    if kind == "nulls":
        page = [_without_assets(row) for row in page]
    if kind == "duplicates":
        page = [row for row in page for _ in range(2)]
    if kind == "short":
        page = page[:-1]
    answer = _json(page, status)
    answer.headers["Content-Range"] = span
    if kind == "truncated":
        answer.body = answer.body[: len(answer.body) // 2]
    if fault and kind == "drip":
        answer.manner, answer.seconds = kind, fault.seconds
    return answer


def _without_assets(row: Row) -> Row:
    puts = {name: [_without_assets(put) for put in row[name]] for name in ("inputs", "outputs") if name in row}
    return row | puts | ({"asset_list": None} if "asset_list" in row else {})


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no error of ours."""
        if not isinstance(sys.exception(), ConnectionError):
            traceback.print_exc()


class _Handler(BaseHTTPRequestHandler):
    koios: Koios
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 30

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self.koios.answer(self.command, self.path, headers, self.rfile.read(length))
        if answer.manner in ("reset", "hang") or self.koios.closing.is_set():
            self.close_connection = True
            if answer.manner == "hang":
                self.koios.closing.wait(answer.seconds)
            elif answer.manner == "reset":  # closing with a linger of nothing sends RST
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.rfile.close()
                self.connection.close()
            return
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        pieces = 20 if answer.manner == "drip" else 1
        step = len(answer.body) // pieces + 1
        for start in range(0, len(answer.body), step):
            self.koios.closing.wait(answer.seconds / pieces)
            self.wfile.write(answer.body[start : start + step])

    do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: `Koios.log` has it."""
