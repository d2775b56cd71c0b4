"""Errors as RFC 9457 problem documents: what, why, what now."""

from __future__ import annotations

import sys
import traceback
from http import HTTPStatus
from secrets import token_hex
from typing import Any

from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from msgspec import Struct

from ...core.errors import Clash, Explained, Invalid, Missing, Unusable

STATUS = {
    Invalid: HTTPStatus.UNPROCESSABLE_ENTITY,
    Clash: HTTPStatus.CONFLICT,
    Missing: HTTPStatus.NOT_FOUND,
    Unusable: HTTPStatus.SERVICE_UNAVAILABLE,
}


class Problem(Struct, frozen=True, omit_defaults=True):
    title: str
    status: int
    detail: str  # a sentence
    hint: str = ""  # what to do


def problem(status: int, detail: str, hint: str = "", headers: dict[str, str] | None = None) -> Response[Problem]:
    body = Problem(HTTPStatus(status).phrase, int(status), detail, hint)
    return Response(body, status_code=status, media_type="application/problem+json", headers=headers)


def explained(_: Request[Any, Any, Any], err: Explained) -> Response[Problem]:
    return problem(STATUS.get(type(err), HTTPStatus.BAD_REQUEST), err.sentence, err.hint)


def refused(_: Request[Any, Any, Any], err: HTTPException) -> Response[Problem]:
    """The framework's own refusals; of a validation the first field that is wrong."""
    detail = err.detail
    if isinstance(err, ValidationException) and isinstance(err.extra, list) and err.extra:
        first = err.extra[0]
        detail = f"{first.get('key', 'the request')}: {first.get('message', detail)}"
    return problem(err.status_code, detail, headers=dict(err.headers or {}))


def broken(_: Request[Any, Any, Any], err: Exception) -> Response[Problem]:
    """A fault of ours: told to whoever runs it, with a reference that the caller can name."""
    reference = token_hex(4)
    print(f"fault {reference}:", *traceback.format_exception(err), file=sys.stderr, flush=True)
    return problem(500, f"Bursar has a fault: reference {reference}", "the log has this reference and the cause")


HANDLERS: dict[Any, Any] = {Explained: explained, HTTPException: refused, Exception: broken}
