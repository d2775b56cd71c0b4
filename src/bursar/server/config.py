"""bursar.toml, checked: what is configured is known, and what is wrong is said in a sentence."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import msgspec
from msgspec import Struct

from ..core.errors import Explained
from ..core.money import DECIMAL

SYSTEM = "system"  # the tenant of what is everybody's: rails, their sources and alerts, keys


class Database(Struct, frozen=True, forbid_unknown_fields=True):
    url: str = "embedded"  # or "memory", or postgresql://… of the role bursar_engine
    migrate: str = ""  # of a server of one's own: the same for bursar_migrate


class Http(Struct, frozen=True, forbid_unknown_fields=True):
    host: str = "127.0.0.1"
    port: int = 8720


class RailConfig(Struct, frozen=True, forbid_unknown_fields=True):
    source: str | list[str] = ""  # the address of a node, or of several endpoints; user and password may be in it
    confirmations: int | None = None
    xpub: str = ""
    blind_after_seconds: int = 600  # without news from the source for this long an alert is raised
    assets: dict[str, AssetConfig] = {}  # listed tokens, by the name that we give them
    wallet: WalletConfig | None = None  # where payouts leave from


class AssetConfig(Struct, frozen=True, forbid_unknown_fields=True):
    id: str  # the rail's own name: policy and asset name, contract
    decimals: int


class WalletConfig(Struct, frozen=True, forbid_unknown_fields=True):
    url: str
    key: str  # the environment variable that holds the secret, never the secret
    network: str = "mainnet"  # of the invoices that it pays
    refuses_expired: bool = False  # its backend was verified to refuse expired invoices


class PriceConfig(Struct, frozen=True, forbid_unknown_fields=True):
    fixed: dict[str, str] = {}  # "BTC/EUR" = "60000.00"
    file: str = ""  # the same table in a file of its own, read again when it changes


class SinkConfig(Struct, frozen=True, forbid_unknown_fields=True):
    jsonl: str  # the file that events are appended to
    history: bool = False  # when it is new: also what was told before it


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    data: str = ".bursar"
    tenant: str = "main"
    database: Database = Database()
    http: Http = Http()
    rails: dict[str, RailConfig] = {}
    prices: PriceConfig = PriceConfig()
    sinks: dict[str, SinkConfig] = {}

    @property
    def folder(self) -> Path:
        return Path(self.data)


def read(path: Path) -> Config:
    """Raises Explained: no file, not TOML, an unknown or a wrong setting."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as err:
        raise Explained(f"{path} can not be read: {err.strerror}", "bursar config example > bursar.toml") from err
    except UnicodeDecodeError as err:
        raise Explained(f"{path} is not TOML: it is no UTF-8", "bursar config example > bursar.toml") from err
    return parse(text, str(path))


def parse(text: str, name: str = "the configuration") -> Config:
    try:
        config = msgspec.convert(tomllib.loads(text), Config)
    except tomllib.TOMLDecodeError as err:
        raise Explained(f"{name} is not TOML: {err}", "bursar config example shows what it looks like") from err
    except msgspec.ValidationError as err:
        raise Explained(f"{name} is wrong: {err}", "bursar config example shows every setting") from err
    for pair, price in config.prices.fixed.items():
        positive(pair, price)
    for wrong, sentence in faults(config):
        if wrong:
            raise Explained(f"{name} is wrong: {sentence}", "bursar config example shows every setting")
    if port := os.environ.get("BURSAR_PORT"):
        if not port.isdecimal() or not 0 < int(port) < 65_536:
            raise Explained(f"BURSAR_PORT={port} is not a port", "a number from 1 to 65535")
        config = msgspec.structs.replace(config, http=msgspec.structs.replace(config.http, port=int(port)))
    return config


def is_tenant(name: str) -> bool:
    """Letters, digits, - and _, and not too many; the system's own name is nobody's."""
    return len(name) <= 200 and name.replace("-", "").replace("_", "").isalnum() and name != SYSTEM


def faults(config: Config) -> Iterator[tuple[bool, str]]:
    url = config.database.url
    known = url in ("embedded", "memory") or url.startswith(("postgresql://", "postgres://")) or "=" in url
    yield not known, "the database's url is embedded, memory, or postgresql://…"
    yield not is_tenant(config.tenant), f"{config.tenant!r} is no name for a tenant"
    yield not 0 < config.http.port < 65_536, f"{config.http.port} is no port"
    for name, rail in config.rails.items():
        yield rail.blind_after_seconds < 1, f"{name}: blind_after_seconds = {rail.blind_after_seconds}"
        yield any(not 0 <= asset.decimals <= 30 for asset in rail.assets.values()), f"{name}: decimals are 0 to 30"
    for name, sink in config.sinks.items():
        yield Path(sink.jsonl).is_dir(), f"the sink {name} is a folder: {sink.jsonl}"
        yield name in (*config.rails, "reconcile", "prices", "database"), f"a sink can not be called {name}"


def positive(pair: str, price: object) -> str:
    """Raises Explained: a price that is no positive decimal number, in quotes."""
    if "/" not in pair or not isinstance(price, str) or not DECIMAL.fullmatch(price) or not Fraction(price):
        raise Explained(f"the price {pair} = {price!r} makes no sense", 'for example "BTC/EUR" = "60000.00"')
    return price


EXAMPLE = """\
# bursar.toml: every setting with its default, or an example behind "#".

data = ".bursar"               # the embedded database, the admin key
tenant = "main"                # whose the first key is

[database]
url = "embedded"               # or "postgresql://bursar_engine@host/bursar", or "memory": forgets when it stops
# migrate = "postgresql://bursar_migrate@host/bursar"   # with a server of your own: who may change its tables

[http]
host = "127.0.0.1"
port = 8720                    # BURSAR_PORT overrides it

[prices]
# fixed = { "BTC/EUR" = "60000.00" }
# file = "prices.toml"         # the same table, read again when the file changes

# [sinks.log]
# jsonl = "events.jsonl"       # one event a line, in order per subject, each at least once
# history = false              # true: when this sink is new, also all that was told before

# [rails."litecoin:regtest"]   # rail:network; bitcoin, litecoin, cardano
# source = "http://user:password@127.0.0.1:19443"   # of a node; or a list of endpoints
# confirmations = 3
# xpub = "zpub…"               # addresses are derived from it (BIP-84); without one each invoice brings its own
# blind_after_seconds = 600    # without news from the source for so long there is an alert

# [rails."cardano:mainnet"]
# source = ["https://koios.example/api/v1", "https://other.example/api/v1"]
# assets = { USDM = { id = "POLICY.NAME", decimals = 6 } }   # listed tokens, by the name that you give them

# [rails."lightning:lnbits"]
# wallet = { url = "https://lnbits.example", key = "LNBITS_KEY", network = "mainnet", refuses_expired = false }
#                              # key: the name of an environment variable; refuses_expired: its backend was verified
#                              # to refuse expired invoices
"""
