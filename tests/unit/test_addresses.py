"""Addresses and scripts against the published vectors of BIP-173 and BIP-350 and against another implementation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.rails.bitcoin.addresses import CHAINS, Chain, address_of, script_of, segwit_address
from bursar.rails.bitcoin.xpub import derive

MAIN, TEST, REGTEST = (CHAINS["bitcoin", n] for n in ("mainnet", "testnet", "regtest"))
LITECOIN = CHAINS["litecoin", "mainnet"]
VECTORS = Path(__file__).parents[3] / "shared" / "vectors" / "bip32.json"
G = "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"


@pytest.mark.parametrize(
    ("address", "chain", "script"),
    [
        ("BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4", MAIN, "0014751e76e8199196d454941c45d1b3a323f1433bd6"),
        (
            "tb1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3q0sl5k7",
            TEST,
            "00201863143c14c5166804bd19203356da136c985678cd4d27a1b8c6329604903262",
        ),
        (
            "tb1qqqqqp399et2xygdj5xreqhjjvcmzhxw4aywxecjdzew6hylgvsesrxh6hy",
            TEST,
            "0020000000c4a5cad46221b2a187905e5266362b99d5e91c6ce24d165dab93e86433",
        ),
        (
            "tb1pqqqqp399et2xygdj5xreqhjjvcmzhxw4aywxecjdzew6hylgvsesf3hn0c",
            TEST,
            "5120000000c4a5cad46221b2a187905e5266362b99d5e91c6ce24d165dab93e86433",
        ),
        ("bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0", MAIN, "5120" + G),
        ("1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", MAIN, "76a91462e907b15cbf27d5425399ebf6f0fb50ebb88f1888ac"),
        ("3P14159f73E4gFr7JterCCQh9QjiTjiZrG", MAIN, "a914e9c3dd0c07aac76179ebc76a6c78d4d67c6c160a87"),
        ("1111111111111111111114oLvT2", MAIN, "76a914000000000000000000000000000000000000000088ac"),
    ],
)
def test_published_addresses(address: str, chain: Chain, script: str) -> None:
    assert script_of(address, chain).hex() == script
    assert address_of(bytes.fromhex(script), chain) in (address, address.lower())


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqh2y7hd", "checksum"),  # bech32 for bech32m
        ("BC1S0XLXVLHEMJA6C4DQV22UAPCTQUPFHLXM9H8Z3K2E72Q4K9HCZ7VQ54WELL", "checksum"),
        ("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kemeawh", "checksum"),  # bech32m for bech32
        ("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5", "checksum"),
        ("bc1p38j9r5y49hruaue7wxjce0updqjuyyx0kh56v8s25huc6995vvpql3jow4", "characters"),
        ("bc1gmk9yu", "length"),
        ("bc1q" + "q" * 90, "length"),
        ("bc1", "length"),
        ("BC130XLXVLHEMJA6C4DQV22UAPCTQUPFHLXM9H8Z3K2E72Q4K9HCZ7VQ7ZWS8R", "version 17"),
        ("bc1pw5dgrnzv", "1 bytes"),
        ("bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7v8n0nx0muaewav253zgeav", "41 bytes"),
        ("BC1QR508D6QEJXTDG4Y5R3ZARVARYV98GJ9P", "16 bytes"),
        ("tb1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vq47Zagq", "upper and lower"),
        ("bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7v07qwwzcrf", "last character"),  # more than 4 bits
        ("tb1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vpggkg4j", "last character"),  # not zero
        ("1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNb", "checksum"),
        ("1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfN0", "base58"),
        ("5HueCGU8rMjxEXxiPuD5BDku4MkFqeZyd4dZ1jvhTVqvbTLvyTJ", "base58"),  # a private key
        ("tc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vq5zuyut", "known prefix"),
        (" 1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", "base58"),
        ("", "base58"),
    ],
)
def test_malformed_addresses_say_why(address: str, says: str) -> None:
    with pytest.raises(ValueError, match=f"is not an address: .*{says}"):
        script_of(address, MAIN)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("bc1pw508d6qejxtdg4y5r3zarvary0c5xw7kw508d6qejxtdg4y5r3zarvary0c5xw7kt5nd6y", "version 1 with 40 bytes"),
        ("BC1SW50QGDZ25J", "version 16 with 2 bytes"),
        ("bc1zw508d6qejxtdg4y5r3zarvaryvaxxpcs", "version 2 with 16 bytes"),
    ],
)
def test_witness_versions_that_nobody_should_be_paid_to(address: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        script_of(address, MAIN)


@pytest.mark.parametrize(
    ("address", "chain", "whose"),
    [
        ("tb1qqqqqp399et2xygdj5xreqhjjvcmzhxw4aywxecjdzew6hylgvsesrxh6hy", MAIN, "bitcoin:testnet or .*bitcoin:signet"),
        ("1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", REGTEST, "bitcoin:mainnet"),
        ("BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4", LITECOIN, "bitcoin:mainnet"),
        ("MMDkQMv8pGGmAXdVyxaW8YtQMCHw7eouma", MAIN, "litecoin:mainnet"),
    ],
)
def test_addresses_of_another_network_say_whose_they_are(address: str, chain: Chain, whose: str) -> None:
    with pytest.raises(ValueError, match=f"{whose}, not of {chain.name}"):
        script_of(address, chain)


def test_both_ways_to_write_a_litecoin_script_hash_are_read_and_the_new_one_is_written() -> None:
    old, new = "3F1c6UWAs9RLN2Mbt5bAJue12VhVCorXzs", "MMDkQMv8pGGmAXdVyxaW8YtQMCHw7eouma"
    assert script_of(old, LITECOIN) == script_of(new, LITECOIN)
    assert address_of(script_of(old, LITECOIN), LITECOIN) == new


scripts = st.one_of(
    st.binary(min_size=20, max_size=20).map(lambda h: b"\x76\xa9\x14" + h + b"\x88\xac"),
    st.binary(min_size=20, max_size=20).map(lambda h: b"\xa9\x14" + h + b"\x87"),
    st.binary(min_size=20, max_size=20).map(lambda h: b"\x00\x14" + h),
    st.binary(min_size=32, max_size=32).map(lambda h: b"\x00\x20" + h),
    st.binary(min_size=32, max_size=32).map(lambda h: b"\x51\x20" + h),
)


@given(scripts, st.sampled_from(list(CHAINS.values())))
def test_scripts_survive_the_way_through_an_address(script: bytes, chain: Chain) -> None:
    address = address_of(script, chain)
    assert address is not None
    assert script_of(address, chain) == script
    if address.startswith(chain.hrp + "1"):
        assert script_of(address.upper(), chain) == script


@given(scripts.flatmap(lambda s: st.tuples(st.just(s), st.integers(0, 200), st.characters(codec="ascii"))))
def test_one_wrong_character_is_always_noticed(case: tuple[bytes, int, str]) -> None:
    script, at, character = case
    address = address_of(script, MAIN)
    assert address is not None
    at %= len(address)
    wrong = address[:at] + character + address[at + 1 :]
    if wrong != address:
        with pytest.raises(ValueError):
            script_of(wrong, MAIN)


@given(st.text(max_size=100), st.sampled_from(list(CHAINS.values())))
def test_any_text_is_an_address_or_a_sentence(text: str, chain: Chain) -> None:
    try:
        script = script_of(text, chain)
    except ValueError as error:
        assert repr(text) in str(error)
    else:
        assert address_of(script, chain) is not None


@given(st.binary(max_size=42))
def test_a_script_has_an_address_only_if_the_address_reads_back(script: bytes) -> None:
    address = address_of(script, MAIN)
    assert address is None or script_of(address, MAIN) == script


@given(scripts)
def test_another_implementation_agrees(script: bytes) -> None:
    embit = pytest.importorskip("embit.script", reason="needs embit: pip install 'bursar[bitcoin]'")
    from embit.networks import NETWORKS

    for chain, network in ((MAIN, "main"), (TEST, "test"), (REGTEST, "regtest")):
        assert embit.Script(script).address(NETWORKS[network]) == address_of(script, chain)


ACCOUNT = (  # the published account of BIP-84, its key and its first two receiving addresses
    "zpub6rFR7y4Q2AijBEqTUquhVz398htDFrtymD9xYYfG1m4wAcvPhXNfE3EfH1r1ADqtfSdVCToUG868RvUUkgDKf31mGDtKsAYz2oz2AGutZYs",
    ("bc1qcr8te4kr609gcawutmrza0j4xv80jy8z306fyu", "bc1qnjg0jd8228aq7egyzacy8cys3knf9xvrerkf9g"),
)


def test_addresses_of_the_published_account() -> None:
    pytest.importorskip("embit", reason="needs embit: pip install 'bursar[bitcoin]'")
    zpub, addresses = ACCOUNT
    assert tuple(derive(zpub, index, MAIN) for index in (0, 1)) == addresses
    assert derive(zpub, 0, LITECOIN) == "ltc1" + segwit_address("ltc", 0, script_of(addresses[0], MAIN)[2:])[4:]
    assert len({derive(zpub, index, MAIN) for index in (0, 1, 7, (1 << 31) - 1)}) == 4


def _with_version(key: str, version: int) -> str:
    from embit import base58

    return str(base58.encode_check(version.to_bytes(4, "big") + base58.decode_check(key)[4:]))


@pytest.mark.parametrize(
    ("version", "chain", "accepted"),
    [
        (0x0488B21E, MAIN, True),  # xpub
        (0x019DA462, LITECOIN, True),  # Ltub
        (0x043587CF, REGTEST, True),  # tpub
        (0x045F1CF6, CHAINS["litecoin", "regtest"], True),  # vpub
        (0x049D7CB2, MAIN, False),  # ypub: the wallet would look at other addresses
        (0x02AA7ED3, MAIN, False),  # Zpub: several signers
        (0x043587CF, MAIN, False),
        (0x0488B21E, REGTEST, False),
        (0x019DA462, MAIN, False),
    ],
)
def test_a_key_must_be_for_the_network_and_the_kind_of_address(version: int, chain: Chain, accepted: bool) -> None:
    pytest.importorskip("embit", reason="needs embit: pip install 'bursar[bitcoin]'")
    key = _with_version(ACCOUNT[0], version)
    if accepted:
        assert script_of(derive(key, 0, chain), chain) == script_of(ACCOUNT[1][0], MAIN)
    else:
        with pytest.raises(ValueError, match=f"not for witness addresses of {chain.name}"):
            derive(key, 0, chain)


def test_published_keys_derive_and_bad_or_private_ones_are_refused() -> None:
    pytest.importorskip("embit", reason="needs embit: pip install 'bursar[bitcoin]'")
    from embit import hashes
    from embit.bip32 import HDKey

    if not VECTORS.exists():
        pytest.skip(f"{VECTORS.name}, the published vectors of BIP-32, is not beside this checkout")
    vectors = json.loads(VECTORS.read_text())
    nodes = [(v["network"], n) for v in vectors["valid"] for n in (v["master"], *v["children"])]
    assert len(nodes) > 15
    for network, node in nodes:
        chain = CHAINS[network, "mainnet"]
        # The same way taken with the private key, by the library alone.
        private = HDKey.parse(bytes.fromhex("0488ade4") + HDKey.parse(_raw(node["base58Priv"])).serialize()[4:])
        public_key = private.derive([0, 5]).get_public_key().sec()
        assert script_of(derive(node["base58"], 5, chain), chain) == b"\x00\x14" + hashes.hash160(public_key)
        with pytest.raises(ValueError, match="PRIVATE") as refusal:
            derive(node["base58Priv"], 0, chain)
        assert node["base58Priv"] not in str(refusal.value)
    for bad in vectors["invalid"]["fromBase58"]:
        with pytest.raises(ValueError):
            derive(bad["string"], 0, MAIN)
    for index in (-1, 1 << 31):
        with pytest.raises(ValueError, match="index"):
            derive(nodes[0][1]["base58"], index, MAIN)


def _raw(key: str) -> bytes:
    from embit import base58

    return bytes.fromhex("0488ade4") + bytes(base58.decode_check(key)[4:])
