"""Bech32 and bech32m (BIP-173, BIP-350): a prefix, five-bit values, a checksum. What the values mean, how many there
may be, and which of the two checksums belongs to them is for whoever asks."""

from __future__ import annotations

from collections.abc import Sequence

BASE32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
BECH32, BECH32M = 1, 0x2BC830A3  # what a right checksum leaves


def encode(prefix: str, values: Sequence[int], left: int) -> str:
    """The text of five-bit values, so that its checksum leaves `left`."""
    checksum = _polymod([*_expand(prefix), *values, *[0] * 6]) ^ left
    return prefix + "1" + "".join(BASE32[v] for v in [*values, *(checksum >> 5 * i & 31 for i in reversed(range(6)))])


def decode(text: str) -> tuple[str, list[int], int]:
    """The prefix in lower case, the values without their checksum, and what that left. Raises ValueError: why not."""
    if text not in (text.lower(), text.upper()):
        raise ValueError("it mixes upper and lower case")
    prefix, _, data = text.lower().rpartition("1")
    if not prefix or len(data) < 6 or not all(c in BASE32 for c in data):
        raise ValueError("its length or one of its characters is not possible")
    values = [BASE32.index(c) for c in data]
    left = _polymod([*_expand(prefix), *values])
    if left not in (BECH32, BECH32M):
        raise ValueError("its checksum is wrong")
    return prefix, values[:-6], left


def to_values(data: bytes) -> list[int]:
    """Bytes as five-bit values, the last one padded with zeros."""
    count = -(-8 * len(data) // 5)
    number = int.from_bytes(data, "big") << (5 * count - 8 * len(data))
    return [number >> 5 * i & 31 for i in reversed(range(count))]


def to_bytes(values: Sequence[int]) -> bytes:
    """Five-bit values as bytes. Raises ValueError: the padding is no padding."""
    number = 0
    for value in values:
        number = number << 5 | value
    size, padding = divmod(5 * len(values), 8)
    if padding > 4 or number & ((1 << padding) - 1):
        raise ValueError("its last character is not possible")
    return (number >> padding).to_bytes(size, "big")


def _expand(prefix: str) -> list[int]:
    return [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix]


def _polymod(values: Sequence[int]) -> int:
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for bit, term in enumerate(GENERATOR):
            check ^= term if top >> bit & 1 else 0
    return check
