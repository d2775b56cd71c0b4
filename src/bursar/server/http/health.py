"""Is it alive, is it ready, what does it count: for machines that watch machines."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, get

from ..shell import Shell
from ..wiring import Bursar


@get("/livez", summary="The process answers", include_in_schema=True)
async def livez() -> dict[str, str]:
    return {"status": "alive"}


@get("/readyz", summary="The database answers, and no loop is failing")
async def readyz(bursar: Bursar, shell: Shell) -> Response[dict[str, object]]:
    await bursar.store.cursors()
    body: dict[str, object] = {"failing": shell.errors, "unreadable": shell.unknown}
    return Response(
        body | {"status": "ready" if not shell.errors else "failing"}, status_code=503 if shell.errors else 200
    )


@get("/metrics", media_type="text/plain; version=0.0.4", summary="Prometheus' text format")
async def metrics(bursar: Bursar, shell: Shell) -> str:
    now, cursors = bursar.engine.now(), await bursar.store.cursors()
    rows: list[tuple[str, str, dict[str, float]]] = [
        ("bursar_rail_position", "the last block that was read", {n: c.position for n, c in cursors.items()}),
        (
            "bursar_rail_lag_seconds",
            "age of the watermark",
            {n: round((now - c.watermark) / 1_000_000, 3) for n, c in cursors.items() if c.watermark},
        ),
        (
            "bursar_rail_unreadable",
            "1 while its source gives no answer",
            {n: int(n in shell.unknown) for n in bursar.observers},
        ),
    ]
    lines = []
    for name, help, values in rows:
        lines += [f"# HELP {name} {help}", f"# TYPE {name} gauge"]
        lines += [f'{name}{{rail="{rail}"}} {value}' for rail, value in sorted(values.items())]
    lines += ["# TYPE bursar_loop_failing gauge", f"bursar_loop_failing {len(shell.errors)}"]
    return "\n".join(lines) + "\n"


@get("/openapi.json", include_in_schema=False)
async def openapi(request: Request[Any, Any, Any]) -> dict[str, Any]:
    return request.app.openapi_schema.to_schema()


ROUTES = [livez, readyz, metrics, openapi]
