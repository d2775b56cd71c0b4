"""Two real LNbits on 127.0.0.1 for tests and examples: A on its FakeWallet, B funded through a wallet on A.

So what B pays to an invoice of A is external to B and asynchronous: freezing or killing A leaves it open. No fee is
charged, expired invoices are not refused, nothing fails to find a route: that needs `bursar.testing.fakes.lightning`.
Calls block; start an instance in a thread that lives on: it dies with the thread that started it."""

from __future__ import annotations

import ctypes
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import httpx
from tests.harness import missing

CACHE = Path(__file__).resolve().parent.parent.parent / ".cache" / "lnbits"
PYTHON = CACHE / "bin" / "python"
READY_SECONDS = 90
WAIT_SECONDS = 5  # how long LNbits waits for its backend before it answers "pending", and gives up: its default
LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG = 1


class Wallet(NamedTuple):
    id: str
    key: str  # the admin key: pays
    invoice_key: str  # reads and makes invoices


class Invoice(NamedTuple):
    bolt11: str
    hash: str


class LNbits:
    """One instance. `url` and its wallets stay over a restart."""

    def __init__(self, folder: Path, **settings: str) -> None:
        if not PYTHON.exists():
            missing("LNbits 1.6.2 is not installed here. To get it: make test-real, or python3 tools/setup.py real")
        folder.mkdir(parents=True)
        package = next(CACHE.glob("lib/python*/site-packages/lnbits"))
        (folder / "lnbits").symlink_to(package)  # it looks for its pages below the working directory
        self.folder, self.port, self.settings = folder, free_port(), settings
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None
        self.token = ""

    def launch(self) -> None:
        environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(self.folder),
            "LNBITS_DATA_FOLDER": str(self.folder / "data"),
            "LNBITS_ADMIN_UI": "true",
            "LNBITS_RATE_LIMIT_NO": "1000000",
            "LNBITS_AUDIT_ENABLED": "false",
            "LNBITS_PRICE_AGGREGATOR_ENABLED": "false",
            "LNBITS_EXCHANGE_RATE_PROVIDERS": "[]",
            "LNBITS_EXTENSIONS_DEACTIVATE_ALL": "true",
            "LNBITS_FUNDING_SOURCE_PAY_INVOICE_WAIT_SECONDS": str(WAIT_SECONDS),
            "FUNDING_SOURCE_MAX_RETRIES": "1000",  # it would fall back to a wallet that fails every payment
            "AUTH_SECRET_KEY": "a-secret-of-this-test",
            **self.settings,
        }
        command = [str(PYTHON), "-m", "uvicorn", "lnbits.__main__:app", "--host", "127.0.0.1", "--port", str(self.port)]
        with (self.folder / "output.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=log, stderr=log, preexec_fn=die_with_parent
            )

    def wait(self) -> Self:
        """Until it answers; the first time, until it has a superuser."""
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                if self.token:
                    httpx.get(f"{self.url}/api/v1/health", timeout=2).raise_for_status()
                else:
                    self.install()
                return self
            except httpx.HTTPError as error:
                if self.running().poll() is not None or time.monotonic() > deadline:
                    log = (self.folder / "output.log").read_text(errors="replace")[-2000:]
                    raise RuntimeError(f"LNbits did not start: {error}\n{log}") from None
                time.sleep(0.1)

    def install(self) -> None:
        who = {"username": "admin", "password": "password", "password_repeat": "password"}
        answer = httpx.put(f"{self.url}/api/v1/auth/first_install", json=who, timeout=5)
        self.token = answer.raise_for_status().json()["access_token"]

    def start(self) -> Self:
        self.launch()
        return self.wait()

    def kill(self) -> None:
        process, self.process = self.running(), None
        process.kill()
        process.wait()

    def freeze(self) -> None:
        """It takes connections and answers nothing, until `thaw`."""
        self.running().send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.running().send_signal(signal.SIGCONT)

    def close(self) -> None:
        if self.process is not None:
            self.kill()

    def running(self) -> subprocess.Popen[bytes]:
        if self.process is None:
            raise RuntimeError("LNbits is not running")
        return self.process

    def call(self, method: str, path: str, key: str, body: object = None) -> Any:
        """With a wallet's key, or as the superuser where there is none. Raises httpx.HTTPError."""
        headers = {"X-Api-Key": key} if key else {"Authorization": f"Bearer {self.token}"}
        return httpx.request(method, self.url + path, headers=headers, json=body, timeout=30).raise_for_status().json()

    def wallet(self, name: str, sats: int) -> Wallet:
        """A new wallet that holds so much, out of nothing."""
        row = self.call("POST", "/api/v1/wallet", "", {"name": name})
        if sats:
            self.call("PUT", "/users/api/v1/balance", "", {"id": row["id"], "amount": sats})
        return Wallet(row["id"], row["adminkey"], row["inkey"])

    def balance(self, wallet: Wallet) -> int:
        """In millisatoshi: what is there, less what is on its way with the fee that it may cost."""
        return int(self.call("GET", "/api/v1/wallet", wallet.key)["balance"])

    def invoice(self, wallet: Wallet, sats: int, expiry_seconds: int = 3600) -> Invoice:
        wish = {"out": False, "amount": sats, "unit": "sat", "memo": "test", "expiry": expiry_seconds}
        row = self.call("POST", "/api/v1/payments", wallet.invoice_key, wish)
        return Invoice(row["bolt11"], row["payment_hash"])

    def payment(self, wallet: Wallet, hash: str) -> dict[str, Any] | None:
        """What the wallet has of it, or None."""
        try:
            answer = self.call("GET", f"/api/v1/payments/{hash}", wallet.invoice_key)
        except httpx.HTTPStatusError as error:
            if error.response.status_code == 404:
                return None
            raise
        return dict(answer)


class Pair:
    """`payee` is a wallet on A, `payer` one on B; `a` and `b` may be frozen, killed and started again."""

    def __init__(self, folder: Path, sats: int = 1_000_000) -> None:
        self.a = LNbits(folder / "a", LNBITS_BACKEND_WALLET_CLASS="FakeWallet", FAKE_WALLET_SECRET="a")
        self.b: LNbits | None = None
        self.folder, self.sats = folder, sats

    def __enter__(self) -> Pair:
        try:
            self.a.start()
            self.payee = self.a.wallet("payee", 0)
            funding = self.a.wallet("funding of B", self.sats)
            settings = {"LNBITS_ENDPOINT": self.a.url, "LNBITS_KEY": funding.key}
            self.b = LNbits(self.folder / "b", LNBITS_BACKEND_WALLET_CLASS="LNbitsWallet", **settings).start()
            self.payer = self.b.wallet("payer", self.sats)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        for instance in (self.a, self.b):
            if instance is not None:
                instance.close()
                shutil.rmtree(instance.folder / "data", ignore_errors=True)

    @property
    def paying(self) -> LNbits:
        if self.b is None:
            raise RuntimeError("the pair has not been started")
        return self.b


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def die_with_parent() -> None:
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
