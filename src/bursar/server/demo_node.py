"""The demo's shop on a real node: Litecoin Core on a chain of its own, whose blocks are mined on demand. The node is
frozen for a while now and then."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import httpx
from embit.bip32 import HDKey
from msgspec.structs import replace

from ..core.errors import Explained
from ..core.money import text_of
from ..rails.bitcoin.source import SCALE, STEP
from .config import Config, RailConfig
from .demo import Shop

RAIL = "litecoin:regtest"
TPUB = bytes.fromhex("043587cf")  # version bytes of an extended public key on test networks
PLACES = ("/usr/lib/litecoin/litecoind",)  # Debian's litecoind in the path is a wrapper that forks


class NodeDemo(Shop):
    unit = STEP
    can_move = False  # all of it goes through the node
    prices: ClassVar = {"LTC/EUR": "90.00"}

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(say)
        self.process: subprocess.Popen[bytes] | None = None
        self.url, self.miner = "", ""

    def config(self, config: Config) -> Config:
        """Starts the node. Raises Explained."""
        config = super().config(config)
        self.start(config.folder / "node")
        key = HDKey.from_seed(os.urandom(32)).derive("m/84h/1h/0h").to_public()
        rail = RailConfig(self.url, confirmations=2, xpub=key.to_base58(TPUB), blind_after_seconds=20)
        return replace(config, rails={RAIL: rail})

    def start(self, folder: Path) -> None:
        binary = next((place for place in (*PLACES, shutil.which("litecoind")) if place and Path(place).exists()), None)
        if binary is None:
            raise Explained("there is no litecoind on this machine", "as root, make demo-node installs it")
        folder.mkdir(parents=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://demo:demo@127.0.0.1:{port}"
        libc = ctypes.CDLL(None)
        self.process = subprocess.Popen(
            [binary, "-regtest", f"-datadir={folder}", "-server", "-listen=0", "-rpcbind=127.0.0.1", "-txindex"]
            + ["-rpcallowip=127.0.0.1", f"-rpcport={port}", "-rpcuser=demo", "-rpcpassword=demo", "-dnsseed=0"]
            + ["-fallbackfee=0.0002", "-discover=0", "-listenonion=0", "-vbparams=mweb:-2:0"],
            stdout=subprocess.DEVNULL,
            preexec_fn=lambda: libc.prctl(1, signal.SIGINT),  # it ends with us, however we end
        )
        for _ in range(300):
            try:
                self.rpc("createwallet", "demo")
                break
            except (httpx.HTTPError, Explained):
                time.sleep(0.1)
        self.miner = self.rpc("getnewaddress")
        self.rpc("generatetoaddress", 110, self.miner)
        self.say(f"litecoind runs on a chain of its own; the shop reads it at 127.0.0.1:{port}")

    def rpc(self, method: str, *params: Any) -> Any:
        """Raises httpx.HTTPError, Explained."""
        answer = httpx.post(self.url, json={"method": method, "params": params}, timeout=10).json()
        if answer["error"]:
            raise Explained(f"litecoind refuses {method}: {answer['error']['message']}")
        return answer["result"]

    def pay(self, to: str, minor: int) -> None:
        self.rpc("sendtoaddress", to, text_of(minor, SCALE))

    def mine(self) -> None:
        self.rpc("generatetoaddress", 1, self.miner)

    def reorganise(self) -> None:
        height = self.rpc("getblockcount")
        self.rpc("invalidateblock", self.rpc("getblockhash", height - 1))
        self.rpc("generatetoaddress", 3, self.rpc("getnewaddress"))

    def plug(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP if self.unplugged else signal.SIGCONT)

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(signal.SIGINT)
            self.process.wait(60)
