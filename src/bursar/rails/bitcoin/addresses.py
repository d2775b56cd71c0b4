"""The table of chains, and addresses to scripts and back (base58check, BIP-173, BIP-350).

Payments are compared by script, never by the address's text: one script may be written in several ways. Scripts that
have no address here, and witness versions that nobody should be paid to yet, are refused. Nothing here derives keys or
talks to a node."""

from __future__ import annotations

from hashlib import sha256
from typing import NamedTuple

from ..bech32 import BECH32, BECH32M, decode, encode, to_bytes, to_values

BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
TAPROOT = 1


class Chain(NamedTuple):
    chain: str
    network: str
    asset: str  # its smallest unit is a hundred-millionth
    hrp: str  # what a segwit address begins with
    p2pkh: int  # version bytes of base58 addresses ...
    p2sh: tuple[int, ...]  # ... of which the first is written and all are read
    finality: int  # confirmations, where the configuration says nothing
    block_seconds: int  # what the network aims at; a second where blocks come when somebody asks for one
    genesis: str  # hash of block 0: tells which network a node is on ...
    fork: tuple[int, str] | None = None  # ... and of a later block, which chains of the same beginning do not have
    coinbase_maturity: int = 100  # confirmations that a mined reward needs before it can be spent

    @property
    def name(self) -> str:
        return f"{self.chain}:{self.network}"


_TEST, _LTC_TEST = (0xC4,), (0x3A, 0xC4)
_ROWS = (
    Chain("bitcoin", "mainnet", "BTC", "bc", 0x00, (0x05,), 3, 600,
          "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f",
          (478_559, "00000000000000000019f112ec0a9982926f1258cdcc558dd7c3b7e5dc7fa148")),
    Chain("bitcoin", "testnet", "BTC", "tb", 0x6F, _TEST, 3, 600,
          "000000000933ea01ad0ee984209779baaec3ced90fa3f408719526f8d77f4943"),
    Chain("bitcoin", "testnet4", "BTC", "tb", 0x6F, _TEST, 3, 600,
          "00000000da84f2bafbbc53dee25a72ae507ff4914b867c565be350b0da8bf043"),
    Chain("bitcoin", "signet", "BTC", "tb", 0x6F, _TEST, 3, 600,
          "00000008819873e925422c1ff0f99f7cc9bbb232af63a077a480a3633bee1ef6"),
    Chain("bitcoin", "regtest", "BTC", "bcrt", 0x6F, _TEST, 3, 1,
          "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206"),
    Chain("bitcoin", "simnet", "BTC", "sb", 0x3F, (0x7B,), 3, 1,
          "683e86bd5c6d110d91b94b97137ba6bfe02dbbdb8e3dff722a669b5d69d77af6"),
    Chain("litecoin", "mainnet", "LTC", "ltc", 0x30, (0x32, 0x05), 6, 150,
          "12a765e31ffd4059bada1e25190f6e98c99d9714d334efa41a195a7e7e04bfe2"),
    Chain("litecoin", "testnet", "LTC", "tltc", 0x6F, _LTC_TEST, 6, 150,
          "4966625a4b2851d9fdee139e56211a0d88575f59ed816ff5e6a63deb4e3e29a0"),
    Chain("litecoin", "regtest", "LTC", "rltc", 0x6F, _LTC_TEST, 6, 1,
          "530827f38f93b43ed12af0b3ad25a288dc02ed74d6d7857862df51fc56c416f9"),
)  # fmt: skip
CHAINS = {(row.chain, row.network): row for row in _ROWS}


def script_of(address: str, chain: Chain) -> bytes:
    """The scriptPubKey that `address` stands for. Raises ValueError with a sentence: malformed, an address of another
    network, or a witness version not known here."""
    hrp, separator, _ = address.lower().rpartition("1")
    if separator and any(row.hrp == hrp for row in _ROWS):
        version, program = _segwit(address)
        if hrp != chain.hrp:
            raise _foreign(address, chain, [row for row in _ROWS if row.hrp == hrp])
        if version > TAPROOT or (version == TAPROOT and len(program) != 32):
            raise ValueError(f"{address!r} has witness version {version} with {len(program)} bytes: not known here")
        return bytes([0x50 + version if version else 0, len(program)]) + program
    version, digest = _base58check(address)
    if version == chain.p2pkh:
        return b"\x76\xa9\x14" + digest + b"\x88\xac"
    if version in chain.p2sh:
        return b"\xa9\x14" + digest + b"\x87"
    raise _foreign(address, chain, [row for row in _ROWS if version == row.p2pkh or version in row.p2sh])


def address_of(script: bytes, chain: Chain) -> str | None:
    """The address that `script` is written as, in its usual form; None where `script_of` would read none."""
    if len(script) == 25 and script.startswith(b"\x76\xa9\x14") and script.endswith(b"\x88\xac"):
        return _to_base58check(chain.p2pkh, script[3:23])
    if len(script) == 23 and script.startswith(b"\xa9\x14") and script.endswith(b"\x87"):
        return _to_base58check(chain.p2sh[0], script[2:22])
    if len(script) in (22, 34) and script[0] == 0 and script[1] == len(script) - 2:
        return segwit_address(chain.hrp, 0, script[2:])
    if len(script) == 34 and script.startswith(b"\x51\x20"):
        return segwit_address(chain.hrp, TAPROOT, script[2:])
    return None


def segwit_address(hrp: str, version: int, program: bytes) -> str:
    """The bech32 (version 0) or bech32m (later) address of a witness program."""
    return encode(hrp, [version, *to_values(program)], BECH32M if version else BECH32)


def _malformed(address: str, why: str) -> ValueError:
    return ValueError(f"{address!r} is not an address: {why}")


def _foreign(address: str, chain: Chain, owners: list[Chain]) -> ValueError:
    whose = " or ".join(row.name for row in owners) or "a network not known here"
    return ValueError(f"{address!r} is an address of {whose}, not of {chain.name}")


def _segwit(address: str) -> tuple[int, bytes]:
    """Witness version and program. The prefix is one of the table's."""
    try:
        if len(address) > 90:
            raise ValueError("its length is not possible")
        _, values, left = decode(address)
        if not values:
            raise ValueError("its length is not possible")
        version, program = values[0], to_bytes(values[1:])
    except ValueError as err:
        raise _malformed(address, str(err)) from None
    if left != (BECH32M if version else BECH32):
        raise _malformed(address, "its checksum is wrong")
    size = len(program)
    if version > 16 or not 2 <= size <= 40 or (version == 0 and size not in (20, 32)):
        raise _malformed(address, f"{size} bytes with witness version {version} are not possible")
    return version, program


def _base58check(address: str) -> tuple[int, bytes]:
    """Version byte and 20 byte digest."""
    if not 25 <= len(address) <= 40 or not all(c in BASE58 for c in address):
        raise _malformed(address, "neither segwit with a known prefix nor base58")
    number = 0
    for c in address:
        number = number * 58 + BASE58.index(c)
    zeros = len(address) - len(address.lstrip(BASE58[0]))
    raw = bytes(zeros) + number.to_bytes(-(-number.bit_length() // 8), "big")
    if len(raw) != 25 or sha256(sha256(raw[:-4]).digest()).digest()[:4] != raw[-4:]:
        raise _malformed(address, "its length or its checksum is wrong")
    return raw[0], raw[1:21]


def _to_base58check(version: int, digest: bytes) -> str:
    raw = bytes([version]) + digest
    raw += sha256(sha256(raw).digest()).digest()[:4]
    number, text = int.from_bytes(raw, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = BASE58[digit] + text
    return BASE58[0] * (len(raw) - len(raw.lstrip(b"\0"))) + text
