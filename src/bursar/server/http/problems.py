"""Errors as RFC 9457 problem documents: what, why, what now."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException

from ...core.errors import Clash, Explained, Invalid, Missing

STATUS = {Invalid: HTTPStatus.UNPROCESSABLE_ENTITY, Clash: HTTPStatus.CONFLICT, Missing: HTTPStatus.NOT_FOUND}


def problem(status: int, detail: str, hint: str = "") -> Response[dict[str, Any]]:
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    if hint:
        body["hint"] = hint
    return Response(body, status_code=status, media_type="application/problem+json")


def explained(_: Request[Any, Any, Any], err: Explained) -> Response[dict[str, Any]]:
    return problem(STATUS.get(type(err), HTTPStatus.BAD_REQUEST), err.sentence, err.hint)


def refused(_: Request[Any, Any, Any], err: HTTPException) -> Response[dict[str, Any]]:
    """The framework's own refusals; of a validation the first field that is wrong."""
    detail = err.detail
    if isinstance(err, ValidationException) and isinstance(err.extra, list) and err.extra:
        first = err.extra[0]
        detail = f"{first.get('key', 'the request')}: {first.get('message', detail)}"
    return problem(err.status_code, detail)


HANDLERS: dict[Any, Any] = {Explained: explained, HTTPException: refused}
