"""The Cardano ledger behind the Koios fake: the child process that alone decides what is valid, and its transactions.

The rules are those of scalus, driven by `scalus.mjs`. Amounts are lovelace. No blocks, no time: see `koios_chain`.
"""

from __future__ import annotations

import json
import select
import shutil
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import cbor2
import pycardano as pc

MODULES = Path(__file__).resolve().parents[4] / "tools/node/package.json"

Asset = tuple[str, str]  # policy id and asset name, both hex; the name may be empty
Ref = tuple[str, int]


class Missing(LookupError):
    """Node.js or scalus is not installed; the text says how to get it."""


class Refused(ValueError):
    """The ledger refused a transaction, in its own words."""


@dataclass(frozen=True)
class Out:
    """One output that exists, or existed."""

    ref: Ref
    address: str
    cred: str
    stake: str | None
    value: int
    assets: Mapping[Asset, int]


@dataclass(frozen=True)
class Tx:
    """A transaction in a block. `made` and `used` are what it really did: of one whose script failed, collateral."""

    id: str
    raw: bytes = field(repr=False)
    fee: int
    valid: bool
    made: tuple[Out, ...]
    used: tuple[Ref, ...]
    minted: Mapping[Asset, int]
    collateral: tuple[Ref, ...] = ()
    collateral_return: Out | None = None
    invalid_before: int | None = None
    invalid_after: int | None = None


def _assets(raw: Mapping[bytes, Mapping[bytes, int]]) -> dict[Asset, int]:
    return {(policy.hex(), name.hex()): n for policy, names in raw.items() for name, n in names.items()}


def _out(ref: Ref, raw: Any) -> Out:
    """An output from its CBOR form: a list before the Babbage era, a map with numbers for keys since."""
    address, value = (raw[0], raw[1]) if raw.__class__ is list else (raw.get(0), raw.get(1))
    lovelace, assets = (value, {}) if isinstance(value, int) else (value[0], _assets(value[1]))
    where = pc.Address.from_primitive(bytes(address))
    stake = where.staking_part and str(pc.Address(staking_part=where.staking_part, network=where.network))
    return Out(ref, str(where), where.payment_part.payload.hex(), stake, lovelace, assets)


def read_tx(txid: str, raw: bytes) -> Tx:
    """A signed transaction from its CBOR form. By the rules a collateral return has the number of outputs as index."""
    body, _, valid, _ = cbor2.loads(raw)
    outputs = [_out((txid, n), each) for n, each in enumerate(body[1])]
    back = _out((txid, len(outputs)), body[16]) if 16 in body else None
    inputs, collateral = (tuple((i.hex(), n) for i, n in body.get(key, ())) for key in (0, 13))
    return Tx(
        id=txid,
        raw=raw,
        fee=body[2] if valid else body[17],
        valid=valid,
        made=tuple(outputs) if valid else (back,) if back else (),
        used=inputs if valid else collateral,
        collateral=collateral,
        collateral_return=back,
        minted=_assets(body.get(9, {})),
        invalid_before=body.get(8),
        invalid_after=body.get(3),
    )


class Verdict(NamedTuple):
    """The ledger's word on one transaction: its id, or why not."""

    txid: str
    error: str


class Ledger:
    """The child process. States are numbers that it hands out; each is a snapshot that stays as it is.

    `modules`: a file beside the node_modules folder that holds scalus. Raises Missing when it or Node.js is not there.
    """

    def __init__(self, modules: Path = MODULES) -> None:
        node = shutil.which("node")
        if not node or not (modules.parent / "node_modules/scalus").is_dir():
            raise Missing("The tests' Cardano ledger is not installed: it needs Node.js 18 or newer, then `make test`.")
        command = [node, str(Path(__file__).with_name("scalus.mjs")), str(modules)]
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._turn = threading.Lock()

    def open(self, address: str, lovelace: int) -> int:
        """A new ledger in which one output, `00…00#0`, pays `address`."""
        return int(self._ask(call="open", address=address, lovelace=str(lovelace)))

    def apply(self, state: int, slot: int, txs: Sequence[bytes]) -> tuple[int, list[Verdict]]:
        """The state after those of `txs` that are valid one after the other at `slot`, and a verdict on each."""
        answer = self._ask(call="apply", state=state, slot=slot, txs=[tx.hex() for tx in txs])
        return int(answer["state"]), [Verdict(**verdict) for verdict in answer["verdicts"]]

    def utxos(self, state: int, address: str | None = None) -> dict[Ref, Out]:
        """The unspent outputs of an address, or all."""
        found = [cbor2.loads(bytes.fromhex(each)) for each in self._ask(call="utxos", state=state, address=address)]
        refs = [((txid.hex(), n), raw) for each in found for (txid, n), raw in each.items()]
        return {ref: _out(ref, raw) for ref, raw in refs}

    def close(self) -> None:
        """End the child."""
        self._child.kill()
        self._child.communicate()

    def _ask(self, **request: object) -> Any:
        assert self._child.stdin and self._child.stdout
        with self._turn:
            self._child.stdin.write(json.dumps(request).encode() + b"\n")
            self._child.stdin.flush()
            if not select.select([self._child.stdout], [], [], 60)[0]:
                raise TimeoutError("the ledger did not answer within a minute")
            line = self._child.stdout.readline()
        if not line:
            raise ConnectionError(f"the ledger ended: {request['call']}")
        return json.loads(line)
