"""The rows of the Koios calls, as one backend's database holds them at its tip.

Fields, orders and silent traps follow the SQL of `cardano-community/koios-artifacts` (files/grest/rpc) and what db-sync
stores. Amounts are decimal strings. It knows nothing of HTTP, paging or faults. Not modelled, and so always empty:
datums, reference scripts, withdrawals, certificates, governance, metadata of transactions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pycardano.crypto import bech32

from bursar.testing.fakes.koios_chain import Block, digest
from bursar.testing.fakes.koios_ledger import Asset, Out, Ref, Tx

EPOCH_SLOTS = 86_400
NO_SCRIPT = dict.fromkeys(("datum_hash", "inline_datum", "reference_script"))
NEVER = (  # what no transaction here has
    "reference_inputs", "withdrawals", "certificates", "native_scripts", "plutus_contracts", "voting_procedures",
    "proposal_procedures",
)
VRF_KEY = bech32.encode("vrf_vk", digest("vrf"))
POOL = bech32.encode("pool", digest("pool", size=28))

Row = dict[str, Any]


@dataclass
class Registry:
    """The off-chain token registry as the backends cached it (K8): `known` holds an asset's name, ticker, decimals.

    An asset of `uncached` was minted too lately for the cache: its decimals are null and `asset_info` has no row.
    """

    known: dict[Asset, dict[str, Any]] = field(default_factory=dict)
    uncached: set[Asset] = field(default_factory=set)

    def decimals(self, asset: Asset) -> int | None:
        return None if asset in self.uncached else self.known.get(asset, {}).get("decimals", 0)


class Place(NamedTuple):
    """Where a transaction stands: `position` in its block; `number` counts all of the chain, like db-sync's id."""

    tx: Tx
    block: Block
    position: int
    number: int


class View:
    """All that a backend with this tip knows."""

    def __init__(self, tip: Block, registry: Registry) -> None:
        self.blocks = list(tip.path())[::-1]
        self.tip, self.registry = tip, registry
        self.by_hash = {block.hash: block for block in self.blocks}
        self.txs: dict[str, Place] = {}
        self.outs: dict[Ref, Out] = {}
        self.spent: dict[Ref, str] = {}
        self.owned: defaultdict[str, list[Out]] = defaultdict(list)  # by address, and by payment credential
        for block in self.blocks:
            for position, tx in enumerate(block.txs):
                self.txs[tx.id] = Place(tx, block, position, len(self.txs))
                self.spent.update((ref, tx.id) for ref in tx.used)
                for out in tx.made:
                    self.outs[out.ref] = out
                    self.owned[out.address].append(out)
                    self.owned[out.cred].append(out)

    def bound(self, height: int) -> int | None:
        """The number of the first transaction at or above a height; None above the last one (K3)."""
        return min((place.number for place in self.txs.values() if place.block.height >= height), default=None)

    def child(self, block: Block) -> str | None:
        return self.blocks[block.height + 1].hash if block.height < self.tip.height else None

    def assets(self, assets: Mapping[Asset, int]) -> list[Row]:
        return [
            {
                "policy_id": policy,
                "asset_name": name,
                "fingerprint": fingerprint((policy, name)),
                "decimals": self.registry.decimals((policy, name)),
                "quantity": str(quantity),
            }
            for (policy, name), quantity in assets.items()
        ]


def fingerprint(asset: Asset) -> str:
    """CIP-14's name for an asset."""
    return str(bech32.encode("asset", digest(bytes.fromhex("".join(asset)), size=20)))


def _at(block: Block) -> Row:
    return {"epoch_no": block.slot // EPOCH_SLOTS, "block_height": block.height, "block_time": block.time}


def _block(view: View, block: Block) -> Row:
    return {
        "hash": block.hash,
        "epoch_no": block.slot // EPOCH_SLOTS,
        "era": "Conway",
        "abs_slot": block.slot,
        "epoch_slot": block.slot % EPOCH_SLOTS,
        "block_height": block.height,
        "block_no": block.height,
        "block_size": 900 + sum(len(tx.raw) for tx in block.txs),
        "block_time": block.time,
        "tx_count": len(block.txs),
        "vrf_key": VRF_KEY,
        "op_cert": VRF_KEY.encode().hex(),
        "op_cert_counter": 1,
        "pool": POOL,
        "proto_major": 10,
        "proto_minor": 0,
        "total_output": str(sum(out.value for tx in block.txs for out in tx.made)) if block.txs else None,
        "total_fees": str(sum(tx.fee for tx in block.txs)) if block.txs else None,
        "num_confirmations": view.tip.height - block.height,
        "parent_hash": block.parent.hash if block.parent else None,
        "child_hash": view.child(block),
    }


def _utxo(view: View, out: Out, extended: object) -> Row:
    return {
        "tx_hash": out.ref[0],
        "tx_index": out.ref[1],
        "address": out.address,
        "value": str(out.value),
        "stake_address": out.stake,
        "payment_cred": out.cred,
        **_at(view.txs[out.ref[0]].block),
        **NO_SCRIPT,
        "asset_list": view.assets(out.assets) if extended else None,  # K1
        "is_spent": out.ref in view.spent,
    }


def _put(view: View, out: Out, assets: object) -> Row:
    """An output as `tx_info` shows it."""
    return {
        "payment_addr": {"bech32": out.address, "cred": out.cred},
        "stake_addr": out.stake,
        "tx_hash": out.ref[0],
        "tx_index": out.ref[1],
        "value": str(out.value),
        **NO_SCRIPT,
        "asset_list": view.assets(out.assets) if assets else [],
    }


def _tx_info(view: View, args: Row) -> list[Row]:
    return [_tx(view, view.txs[txid], args) for txid in dict.fromkeys(args["_tx_hashes"]) if txid in view.txs]


def _tx(view: View, place: Place, args: Row) -> Row:
    tx, block, assets, scripts = place.tx, place.block, args["_assets"], args["_scripts"]
    back = tx.collateral_return if scripts else None
    mints = [row | {"decimals": row["decimals"] or 0} for row in view.assets(tx.minted)] if assets else []
    return {
        "tx_hash": tx.id,
        "block_hash": block.hash,
        "block_height": block.height,
        "epoch_no": block.slot // EPOCH_SLOTS,
        "epoch_slot": block.slot % EPOCH_SLOTS,
        "absolute_slot": block.slot,
        "tx_timestamp": block.time,
        "tx_block_index": place.position,
        "tx_size": len(tx.raw),
        "total_output": str(sum(out.value for out in tx.made)),
        "fee": str(tx.fee),
        "treasury_donation": "0",
        "deposit": "0",
        "invalid_before": None if tx.invalid_before is None else str(tx.invalid_before),
        "invalid_after": None if tx.invalid_after is None else str(tx.invalid_after),
        "valid_contract": tx.valid,
        "collateral_inputs": _puts(view, tx.collateral if scripts and args["_inputs"] else (), assets),
        "collateral_output": [_put(view, back, assets)] if back else None,
        "inputs": _puts(view, tx.used if args["_inputs"] else (), assets),
        "outputs": [_put(view, out, assets) for out in tx.made],
        "assets_minted": mints,
        "metadata": None,
        **{name: [] for name in NEVER},
    }


def _puts(view: View, refs: Iterable[Ref], assets: object) -> list[Row]:
    return [_put(view, view.outs[ref], assets) for ref in refs]


def _tx_status(view: View, args: Row) -> list[Row]:
    places = [(txid, view.txs.get(txid)) for txid in args["_tx_hashes"]]
    return [{"tx_hash": txid, "num_confirmations": at and view.tip.height - at.block.height} for txid, at in places]


def _named(view: View, args: Row) -> list[Block]:
    """The blocks asked for; one that is unknown or rolled back is left out."""
    return [view.by_hash[name] for name in dict.fromkeys(args["_block_hashes"]) if name in view.by_hash]


def _block_txs(view: View, args: Row) -> list[Row]:
    return [{"block_hash": b.hash, "tx_hash": tx.id, **_at(b)} for b in _named(view, args) for tx in b.txs]


def _owned(view: View, args: Row) -> list[Out]:
    keys = args.get("_addresses") or args.get("_payment_credentials") or ()
    return [out for key in dict.fromkeys(keys) for out in view.owned.get(key, ())]


def _utxos(view: View, args: Row) -> list[Row]:
    return [_utxo(view, out, args["_extended"]) for out in _owned(view, args) if out.ref not in view.spent]  # K7


def _outputs(view: View, args: Row) -> list[Row]:
    """K2: `>` where the documents say inclusive, so that the first transaction of the boundary block is lost."""
    bound = view.bound(args["_after_block_height"])
    above = [out for out in _owned(view, args) if bound is not None and view.txs[out.ref[0]].number > bound]
    return [_utxo(view, out, None) for out in above]


def _txs(view: View, args: Row) -> list[Row]:
    bound = view.bound(args["_after_block_height"])
    refs = [out.ref for out in _owned(view, args)]
    ids = dict.fromkeys([ref[0] for ref in refs] + [view.spent[ref] for ref in refs if ref in view.spent])
    places = [view.txs[txid] for txid in ids if bound is not None and view.txs[txid].number >= bound]
    return [{"tx_hash": place.tx.id, **_at(place.block)} for place in places]


def _utxo_info(view: View, args: Row) -> list[Row]:
    refs = [(txid, int(index)) for txid, _, index in (ref.partition("#") for ref in dict.fromkeys(args["_utxo_refs"]))]
    return [_utxo(view, view.outs[ref], args["_extended"]) for ref in refs if ref in view.outs]


def _asset_info(view: View, args: Row) -> list[Row]:
    assets = [asset for asset in dict.fromkeys(map(tuple, args["_asset_list"])) if asset not in view.registry.uncached]
    return [row for policy, name in assets if (row := _asset(view, (policy, name)))]


def _asset(view: View, asset: Asset) -> Row | None:
    minted = [place for place in view.txs.values() if place.tx.valid and asset in place.tx.minted]
    if not minted:
        return None
    known = view.registry.known.get(asset)
    blank = {"name": None, "description": "", "ticker": None, "url": None, "logo": None, "decimals": 0}
    return {
        "policy_id": asset[0],
        "asset_name": asset[1],
        "asset_name_ascii": bytes.fromhex(asset[1]).decode("ascii", "backslashreplace"),
        "fingerprint": fingerprint(asset),
        "minting_tx_hash": minted[-1].tx.id,
        "total_supply": str(sum(place.tx.minted[asset] for place in minted)),
        "mint_cnt": sum(place.tx.minted[asset] > 0 for place in minted),
        "burn_cnt": sum(place.tx.minted[asset] < 0 for place in minted),
        "creation_time": minted[0].block.time,
        "minting_tx_metadata": None,
        "token_registry_metadata": blank | known if known else None,
        "cip68_metadata": None,
    }


@dataclass(frozen=True)
class Call:
    """One call: its rows, its arguments with their defaults (None: required), and in what order they come.

    `order`: "backend" (each its own, K5), "height" (newest first, equals as the backend likes) or "given".
    `columns`: those shown, where the rows hold more; empty for all.
    """

    rows: Callable[[View, Row], list[Row]]
    args: Mapping[str, Any] = field(default_factory=dict)
    order: str = "backend"
    columns: Sequence[str] = ()
    method: str = "POST"


_BLOCK = (
    "hash epoch_no abs_slot epoch_slot block_height block_size block_time tx_count vrf_key pool proto_major proto_minor"
    " op_cert_counter parent_hash"
)
_INFO = "era op_cert total_output total_fees num_confirmations child_hash"
_FLAGS = "_inputs _metadata _assets _withdrawals _certs _scripts _bytecode _governance"
_SINCE = {"_after_block_height": 0}
_EXTENDED = {"_extended": False}

CALLS: dict[str, Call] = {
    "tip": Call(
        lambda view, _: [_block(view, view.tip)],
        columns="hash epoch_no era abs_slot epoch_slot block_height block_no block_time".split(),
        method="GET",
    ),
    "blocks": Call(
        lambda view, _: [_block(view, block) for block in reversed(view.blocks)],
        order="given",
        columns=_BLOCK.split(),
        method="GET",
    ),
    "block_info": Call(
        lambda view, args: [_block(view, block) for block in _named(view, args)],
        {"_block_hashes": None},
        columns=f"{_BLOCK} {_INFO}".split(),
    ),
    "block_txs": Call(_block_txs, {"_block_hashes": None}),
    "tx_info": Call(_tx_info, {"_tx_hashes": None, **dict.fromkeys(_FLAGS.split(), False)}),
    "tx_status": Call(_tx_status, {"_tx_hashes": None}, "given"),
    "address_utxos": Call(_utxos, {"_addresses": None, **_EXTENDED}),
    "credential_utxos": Call(_utxos, {"_payment_credentials": None, **_EXTENDED}),
    "utxo_info": Call(_utxo_info, {"_utxo_refs": None, **_EXTENDED}),
    "address_outputs": Call(
        _outputs,
        {"_addresses": None, **_SINCE},
        "height",
        "address tx_hash tx_index value stake_address payment_cred epoch_no block_height block_time is_spent".split(),
    ),
    "address_txs": Call(_txs, {"_addresses": None, **_SINCE}, "height"),
    "credential_txs": Call(_txs, {"_payment_credentials": None, **_SINCE}, "height"),
    "asset_info": Call(_asset_info, {"_asset_list": None}),
}
