"""The document of the API: the one in docs is the one that is served, and it says what is true.

`BURSAR_WRITE=1 pytest tests/server/test_openapi.py` writes docs/openapi.json anew."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from tests.harness.service import BANK, house

pytestmark = pytest.mark.anyio
FILE = Path(__file__).parent.parent.parent / "docs/openapi.json"


def walk(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
    for part in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from walk(part)


def operations(document: Any) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


async def served(tmp: Path) -> Any:
    async with house(tmp) as it:
        return await it.get("/openapi.json")


async def test_it_is_the_one_in_docs(tmp_path: Path) -> None:
    text = json.dumps(await served(tmp_path), indent=1, ensure_ascii=False) + "\n"
    if os.environ.get("BURSAR_WRITE"):
        FILE.write_text(text)
    assert FILE.read_text() == text


def test_it_is_an_openapi_3_1_document() -> None:
    document = json.loads(FILE.read_text())
    assert document["openapi"].startswith("3.1.") and document["info"]["title"] and document["info"]["version"]
    for node in walk(document):
        if "$ref" in node:
            target = document
            for part in node["$ref"].removeprefix("#/").split("/"):
                target = target[part]
    for name, schema in document["components"]["schemas"].items():
        assert re.fullmatch(r"[a-zA-Z0-9._-]+", name)
        Draft202012Validator.check_schema(schema)
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(ids)) == len(ids)
    for path, _, operation in operations(document):
        named = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
        assert named == set(re.findall(r"{(\w+)}", path)), path
        assert operation["responses"] and all(r["description"] for r in operation["responses"].values())


def test_every_route_is_described_with_real_types() -> None:
    document = json.loads(FILE.read_text())
    assert len(list(operations(document))) >= 19
    for path, method, operation in operations(document):
        assert operation["summary"], path
        for status, response in operation["responses"].items():
            for kind, content in response.get("content", {}).items():
                schema = content["schema"]
                if status >= "400" and path.startswith("/v1"):
                    assert kind == "application/problem+json" and schema["$ref"].endswith("/Problem"), (path, status)
                elif path.startswith("/v1"):
                    assert "$ref" in schema or "$ref" in schema["items"], (path, method)
        if path.startswith("/v1"):
            assert {"400", "401", "404", "409", "422"} <= operation["responses"].keys()
            assert "security" not in operation
        else:
            assert operation["security"] == [{}]  # nobody needs a key
    assert document["security"] == [{"key": []}]


async def test_what_is_answered_is_what_is_described(tmp_path: Path) -> None:
    document = json.loads(FILE.read_text())

    def check(path: str, method: str, status: int, body: Any) -> None:
        content = document["paths"][path][method]["responses"][str(status)]["content"]
        (described,) = content.values()
        schema = {**described["schema"], "components": document["components"]}
        errors = list(Draft202012Validator(schema).iter_errors(body))
        assert not errors, (path, errors[0].message)

    async with house(tmp_path) as it:
        made = await it.invoice(price={"asset": "EUR", "value": "30"}, external_id="a")
        check("/v1/invoices", "post", 201, made)
        it.world.pay(made["ways"][0]["address"], "0.0005")
        it.world.mine(2)
        done = await it.until(f"/v1/invoices/{made['id']}", state="settled")
        check("/v1/invoices/{id}", "get", 200, done)
        paying = {"rail": BANK, "to": "payee", "amount": {"asset": "BTC", "value": "0.5"}}
        answer = await it.http.post("/v1/payouts", json=paying)
        check("/v1/payouts", "post", 201, answer.json())
        for path in ("invoices", "payouts", "alerts", "sources", "events", "keys"):
            check(f"/v1/{path}", "get", 200, await it.get(f"/v1/{path}"))
        check("/v1/invoices/{id}/timeline", "get", 200, await it.get(f"/v1/invoices/{made['id']}/timeline"))
        check("/readyz", "get", 200, await it.get("/readyz"))
        refused = await it.http.post("/v1/payouts", json=paying | {"rail": "moon"})
        check("/v1/payouts", "post", refused.status_code, refused.json())
