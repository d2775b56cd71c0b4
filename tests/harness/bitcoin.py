"""Real nodes for tests and examples: litecoind (Bitcoin Core's code) and btcd, each alone on 127.0.0.1.

The blocks and the payments are made here, so that both nodes do the same: any transaction can be mined whatever the
mempool holds, and any block can be built upon. Calls block; from a coroutine use `asyncio.to_thread`, but start a node
in a thread that lives on: it dies with the thread that started it."""

from __future__ import annotations

import ctypes
import json
import shutil
import signal
import socket
import statistics
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from decimal import Decimal
from hashlib import scrypt
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import httpx
from embit.bip32 import HDKey
from embit.hashes import double_sha256, hash160
from embit.transaction import Transaction
from tests.harness import missing
from tests.harness.bitcoin_blocks import Coin, block, coinbase, payment

from bursar.rails.bitcoin.addresses import CHAINS, Chain, script_of, segwit_address

SATS = 100_000_000
MATURITY = 100
TPUB = bytes.fromhex("043587cf")
LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG = 1


class NodeError(Exception):
    """The node refused a call."""

    def __init__(self, method: str, code: int, message: str) -> None:
        super().__init__(f"{method}: {code} {message}")
        self.code = code


class Made(NamedTuple):
    """A block that we know, on whatever branch."""

    parent: str
    height: int
    time: int


class BitcoinNode(ABC):
    """`url`, `chain` and `xpub` (an account whose receiving addresses `address(i)` are ours) stay over a restart."""

    proof_of_work = staticmethod(double_sha256)
    version = 0x20000000
    funded = 130  # blocks at the start: the first reward is spendable after MATURITY

    def __init__(self, folder: Path, chain: Chain) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.chain = folder, chain
        self.port = _free_port()
        self.url = f"http://user:password@127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None
        self._http = _client()
        account = HDKey.from_seed(bytes(range(32))).derive("m/84h/1h/0h")
        self.xpub = str(account.to_public(TPUB).to_base58())
        self._account, self._keys = account, {}  # type: HDKey, dict[bytes, HDKey]
        self.reward_address = self._own([1, 0])
        self._txs: dict[str, tuple[Transaction, list[Coin]]] = {}
        self._made: dict[str, Made] = {}
        self._blocks: list[str] = []
        self._next_coin = 1

    @abstractmethod
    def command(self) -> list[str]:
        """The real binary and its arguments."""

    def start(self) -> Self:
        """Up with what its folder holds; a new one gets coins to spend."""
        log = (self.folder / "output.log").open("ab")
        with log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log, preexec_fn=_die_with_parent)
        deadline = time.monotonic() + 30
        while True:
            try:
                self.rpc("getblockcount")
                break
            except (httpx.HTTPError, NodeError) as error:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the node did not start: {error}\n{self._log()}") from None
                time.sleep(0.02)
        self._next_coin = 1
        if not self._made:
            self.mine(self.funded)
        return self

    def stop(self) -> None:
        """Orderly. A connection that somebody else keeps open delays it, by up to 30 seconds."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def restart(self) -> Self:
        """After `stop` or `kill`, on the same port, and with all blocks again, as from peers: one that was killed has
        forgotten what it had not yet written to disk (see that with `start`), and what waited in its mempool."""
        self.start()
        for raw in self._blocks:
            self._submit(raw)
        return self

    def freeze(self) -> None:
        """It takes connections and answers nothing, until `thaw`."""
        self._running().send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._running().send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.process is not None:
            self.kill()

    def _running(self) -> subprocess.Popen[bytes]:
        if self.process is None:
            raise RuntimeError("the node is not running")
        return self.process

    def _end(self, how: signal.Signals) -> None:
        process = self._running()
        self._http.close()
        self._http = _client()
        process.send_signal(how)
        try:
            process.wait(45)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self.process = None

    def _log(self) -> str:
        return "\n".join(f.read_text(errors="replace")[-2000:] for f in self.folder.rglob("*.log"))

    def rpc(self, method: str, *params: object) -> Any:
        """Raises NodeError, httpx.HTTPError. Numbers with a point come as Decimal."""
        body = {"jsonrpc": "1.0", "id": 1, "method": method, "params": params}
        answer = json.loads(self._http.post(self.url, json=body).text, parse_float=Decimal)
        if answer["error"]:
            raise NodeError(method, answer["error"]["code"], answer["error"]["message"])
        return answer["result"]

    def address(self, index: int = 0) -> str:
        """Receiving address of `xpub`, whose key we have."""
        return self._own([0, index])

    def pay(self, address: str, sats: int) -> str:
        """Into the mempool, replaceable. The txid."""
        return self.pay_many([(address, sats)])

    def pay_many(self, payments: Sequence[tuple[str, int]]) -> str:
        fee = 20_000 + 100 * len(payments)
        coins: list[Coin] = []
        while sum(c.sats for c in coins) < sum(sats for _, sats in payments) + fee + 1000:
            coins.append(self._reward())
        return self.send(self._sign(coins, payments, fee))

    def replace(self, txid: str, address: str | None = None, sats: int = 0) -> str:
        """By a higher fee, from the same coins: to another address or amount, or all back to us. The new txid."""
        return self.send(self.rival(txid, address, sats))

    def rival(self, txid: str, address: str | None = None, sats: int = 0) -> str:
        """Like `replace`, but kept here: for `mine(only=[…])`, a double spend that nobody has seen before its block."""
        old, coins = self._txs[txid]
        fee = sum(c.sats for c in coins) - sum(o.value for o in old.vout) + 40_000
        return self._sign(coins, [(address, sats)] if address else [], fee)

    def sweep(self, address: str) -> str:
        """Spends all that we paid to one of our own addresses. The txid."""
        script = script_of(address, self.chain)
        coins = [
            Coin(txid, vout, output.value, script)
            for txid, (tx, _) in self._txs.items()
            for vout, output in enumerate(tx.vout)
            if output.script_pubkey.data == script and self.rpc("gettxout", txid, vout, True)
        ]
        return self.send(self._sign(coins, [], 20_000))

    def send(self, txid: str) -> str:
        """One of ours, perhaps again: always the same bytes. Raises NodeError where the node will not have them."""
        return str(self.rpc("sendrawtransaction", self.raw(txid)))

    def raw(self, txid: str) -> str:
        return str(self._txs[txid][0].serialize().hex())

    def _own(self, path: list[int]) -> str:
        key = self._account.derive(path)
        digest = hash160(key.sec())
        self._keys[b"\x00\x14" + digest] = key
        return segwit_address(self.chain.hrp, 0, digest)

    def _reward(self) -> Coin:
        script = script_of(self.reward_address, self.chain)
        for height in range(self._next_coin, int(self.rpc("getblockcount")) - MATURITY + 2):
            self._next_coin = height + 1
            txid = self.rpc("getblock", self.rpc("getblockhash", height), 1)["tx"][0]
            found = self.rpc("gettxout", txid, 0, True)
            if found and found["scriptPubKey"]["hex"] == script.hex():
                return Coin(txid, 0, int(found["value"] * SATS), script)
        raise RuntimeError("no coins: mine more blocks to reward_address")

    def _sign(self, coins: list[Coin], payments: Sequence[tuple[str, int]], fee: int) -> str:
        outputs = [(script_of(address, self.chain), sats) for address, sats in payments]
        change = sum(c.sats for c in coins) - sum(sats for _, sats in payments) - fee
        outputs.append((script_of(self.reward_address, self.chain), change))
        tx = payment(coins, outputs, self._keys)
        txid = str(tx.txid().hex())
        self._txs[txid] = tx, coins
        return txid

    def mine(
        self, n: int = 1, address: str | None = None, only: Sequence[str] | None = None, on: str | None = None
    ) -> list[str]:
        """`n` blocks upon the tip, their rewards to `address` (ours). The first one holds the mempool, or exactly
        `only`: payments of ours, whether the node has them or not. Upon another block, `on`, it holds `only`. Their
        hashes."""
        parent, hashes = on or str(self.rpc("getbestblockhash")), []
        txs = self._waiting() if only is None and on is None else [self._txs[txid][0] for txid in only or ()]
        for left in reversed(range(n)):
            parent = self._mine_one(parent, txs, address or self.reward_address, left)
            hashes.append(parent)
            txs = []
        return hashes

    def reorg(self, depth: int, only: Sequence[str] = ()) -> str:
        """The last `depth` blocks lose to one more, the first of which holds `only`. The hash of the old tip:
        `mine(2, on=old)` brings the same blocks back."""
        old = str(self.rpc("getbestblockhash"))
        fork = self.rpc("getblockhash", self.rpc("getblockcount") - depth)
        self.mine(depth + 1, only=only, on=fork)
        return old

    def disconnect(self, depth: int) -> str:
        """The last `depth` blocks are gone and nothing takes their place. Their first one, for `reconnect`."""
        first = str(self.rpc("getblockhash", self.rpc("getblockcount") - depth + 1))
        self.rpc("invalidateblock", first)
        return first

    def reconnect(self, first: str) -> None:
        """What `disconnect` took is there again, the same blocks."""
        self.rpc("reconsiderblock", first)

    def _waiting(self) -> list[Transaction]:
        """What of the mempool can be mined, parents first: a node may keep what a block has made impossible."""
        raws = [bytes.fromhex(self.rpc("getrawtransaction", txid, 0)) for txid in self.rpc("getrawmempool", False)]
        waiting = [Transaction.parse(raw) for raw in raws]
        chosen: list[Transaction] = []
        outputs: set[str] = set()
        spent: set[tuple[str, int]] = set()
        before = -1
        while before < len(chosen):
            before = len(chosen)
            for tx in [tx for tx in waiting if tx not in chosen]:
                if self._mineable(tx, outputs, spent):
                    chosen.append(tx)
                    outputs.add(tx.txid().hex())
                    spent |= {(i.txid.hex(), i.vout) for i in tx.vin}
        return chosen

    def _mineable(self, tx: Transaction, outputs: set[str], spent: set[tuple[str, int]]) -> bool:
        coins = [(i.txid.hex(), i.vout) for i in tx.vin]
        return not spent & set(coins) and all(t in outputs or self.rpc("gettxout", t, v, False) for t, v in coins)

    def _mine_one(self, parent: str, txs: list[Transaction], address: str, left: int) -> str:
        at = self._known(parent)
        height = at.height + 1
        # As late as the median of the last eleven asks, else so that the batch ends now instead of in the future.
        clock = max(self._median_time(parent) + 1, int(time.time()) - left)
        reward = coinbase(height, script_of(address, self.chain), (50 * SATS) >> (height // self.halving), txs)
        hash, raw = block(parent, clock, self.version, [reward, *txs], self.proof_of_work)
        self._submit(raw)
        self._blocks.append(raw)
        self._made[hash] = Made(parent, height, clock)
        return hash

    def _submit(self, raw: str) -> None:
        """It may be known, or on a branch that is not the best one."""
        refused = str(self.rpc("submitblock", raw) or "")
        if not any(word in refused for word in ("inconclusive", "duplicate", "already have")) and refused:
            raise NodeError("submitblock", 0, refused)

    @property
    def halving(self) -> int:
        return 150 if self.chain.network == "regtest" else 210_000

    def _known(self, hash: str) -> Made:
        if hash not in self._made:
            header = self.rpc("getblockheader", hash, True)
            self._made[hash] = Made(header.get("previousblockhash", ""), header["height"], header["time"])
        return self._made[hash]

    def _median_time(self, hash: str) -> int:
        times: list[int] = []
        while len(times) < 11:
            at = self._known(hash)
            times.append(at.time)
            if at.height == 0:
                break
            hash = at.parent
        return int(statistics.median_high(times))


class Litecoind(BitcoinNode):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder, CHAINS["litecoin", "regtest"])

    @staticmethod
    def proof_of_work(header: bytes) -> bytes:
        return scrypt(header, salt=header, n=1024, r=1, p=1, dklen=32)

    def command(self) -> list[str]:
        found = shutil.which("litecoind")
        if found is None or Path(found).read_bytes()[:4] != b"\x7fELF":  # Debian's is a script that forks
            found = "/usr/lib/litecoin/litecoind"
        if not Path(found).exists():
            missing("litecoind is not installed: `make setup`, or `apt-get install litecoind`")
        return [
            found, "-regtest", f"-datadir={self.folder}", "-server", "-listen=0", "-rpcbind=127.0.0.1",
            "-rpcallowip=127.0.0.1", f"-rpcport={self.port}", "-rpcuser=user", "-rpcpassword=password",
            "-disablewallet", "-dnsseed=0", "-discover=0", "-listenonion=0", "-mempoolreplacement=1",
            "-vbparams=mweb:-2:0", "-dbcache=8",
        ]  # fmt: skip


class Btcd(BitcoinNode):
    """`network`: regtest, which forgets everything at every start, or simnet, which after `kill` has what it had last
    written to disk."""

    def __init__(self, folder: Path, network: str = "regtest") -> None:
        super().__init__(folder, CHAINS["bitcoin", network])
        self.peer_port = _free_port()
        if network == "simnet":
            self.version, self.funded = 0x20000007, 330  # witnesses are valid from block 300, if its blocks ask for it

    def command(self) -> list[str]:
        ours = Path(__file__).parents[2] / ".cache" / "bin" / "btcd"
        found = str(ours) if ours.exists() else shutil.which("btcd")
        if found is None:
            missing("btcd is not installed: `make setup`, or `go install github.com/btcsuite/btcd@v0.26.2`")
        (self.folder / "none.conf").touch()
        return [
            found, f"--{self.chain.network}", f"--configfile={self.folder}/none.conf", f"--datadir={self.folder}/data",
            f"--logdir={self.folder}/logs", f"--listen=127.0.0.1:{self.peer_port}", "--rpcuser=user",
            f"--rpclisten=127.0.0.1:{self.port}", "--rpcpass=password", f"--rpccert={self.folder}/rpc.cert",
            f"--rpckey={self.folder}/rpc.key", "--notls", "--nodnsseed", "--nostalldetect", "--nobanning",
            "--trickleinterval=50ms", "--utxocachemaxsize=8", "--debuglevel=info",
        ]  # fmt: skip

    def reorg_by_peer(self, depth: int, only: Sequence[str] = ()) -> str:
        """Like `reorg`, with blocks that come from a peer: then this node goes on keeping in its mempool what they have
        made impossible."""
        old, keep = str(self.rpc("getbestblockhash")), int(self.rpc("getblockcount")) - depth
        peer = Btcd(self.folder / f"peer-{old}", self.chain.network)
        peer._made, peer._txs = dict(self._made), self._txs
        with peer:
            for height in range(1, keep + 1):
                peer._submit(self.rpc("getblock", self.rpc("getblockhash", height), 0))
            *_, new = peer.mine(depth + 1, only=only)
            self.rpc("addnode", f"127.0.0.1:{peer.peer_port}", "onetry")
            deadline = time.monotonic() + 20
            while self.rpc("getbestblockhash") != new:
                if time.monotonic() > deadline:
                    raise RuntimeError("the peer's blocks did not come")
                time.sleep(0.02)
        self._made |= peer._made
        self._blocks += peer._blocks
        return old


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _client() -> httpx.Client:
    return httpx.Client(timeout=30, trust_env=False)


def _die_with_parent() -> None:
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
