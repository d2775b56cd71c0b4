"""bursar.toml: the example parses as it is and when every example in it is taken, and names every setting."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from bursar.core.errors import Explained
from bursar.server.config import EXAMPLE, Config, PriceConfig, parse
from bursar.server.prices import Prices


def uncommented(text: str) -> str:
    """Every setting that stands behind "#" taken, every comment left."""
    return re.sub(r"^# (?=\[|[a-z_]+ = )", "", text, flags=re.M)


def settings(kind: type[msgspec.Struct]) -> set[str]:
    found = set()
    for field in msgspec.structs.fields(kind):
        found.add(field.name)
        for part in msgspec.inspect.multi_type_info([field.type]):
            for inner in (part, getattr(part, "value_type", None), *getattr(part, "types", ())):
                if isinstance(inner, msgspec.inspect.StructType):
                    found |= settings(inner.cls)
    return found


def test_the_example_parses_as_it_is_and_means_the_defaults() -> None:
    assert parse(EXAMPLE) == Config()


def test_the_example_parses_when_uncommented_and_names_every_setting() -> None:
    whole = uncommented(EXAMPLE)
    config = parse(whole)
    assert config.rails and config.sinks and config.prices.fixed
    named = set(re.findall(r"^(?:\[)?([a-z_]+)", whole, flags=re.M)) | set(re.findall(r"([a-z_]+) = ", whole))
    assert settings(Config) <= named


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("tenant = 'system'", "tenant"),
        ("tenant = 'a b'", "tenant"),
        ("[http]\nport = 99999", "99999"),
        ("[database]\nurl = 'emdedded'", "database's url"),
        ("[sinks.prices]\njsonl = 'x'", "can not be called prices"),
        ("[rails.'bitcoin:regtest']\nblind_after_seconds = -5", "blind_after_seconds"),
        ("[rails.'cardano:mainnet']\nassets = { USDM = { id = 'x', decimals = -2 } }", "decimals"),
        ("[sinks.log]\njsonl = '/'", "folder"),
        ("[prices]\nfixed = { 'BTC/EUR' = '0' }", "makes no sense"),
    ],
)
def test_what_can_not_be_meant(text: str, word: str) -> None:
    with pytest.raises(Explained, match=word):
        parse(text)


@pytest.mark.parametrize("url", ["postgresql://bursar_engine@db/bursar", "host=/run/db user=bursar_engine"])
def test_a_database_of_ones_own(url: str) -> None:
    assert parse(f"[database]\nurl = '{url}'").database.url == url


@pytest.mark.parametrize("port", ["0", "65536", "-1", "a"])
def test_a_port_that_is_none(port: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BURSAR_PORT", port)
    with pytest.raises(Explained, match="BURSAR_PORT"):
        parse("")


def test_prices_that_can_not_be_read_are_missing_and_never_zero(tmp_path: Path) -> None:
    file = tmp_path / "prices.toml"
    prices = Prices(PriceConfig({"BTC/EUR": "60000"}, str(file)))
    assert prices.now() == {"BTC/EUR": "60000"}
    file.write_text('"ADA/EUR" = "0.30"\n')
    assert prices.now() == {"BTC/EUR": "60000", "ADA/EUR": "0.30"}
    assert not prices.trouble
    for nonsense in ('"ADA/EUR" = "0"\n', '"ADA/EUR" = \n', '"ADA/EUR" = "nan"\n', '"ADA/EUR" = "1/0"\n'):
        file.write_text(nonsense)
        assert prices.now() == {"BTC/EUR": "60000"}, nonsense
        assert "prices.toml" in prices.trouble
    file.write_text('"ADA/EUR" = "0.31"\n')
    assert prices.now()["ADA/EUR"] == "0.31"
