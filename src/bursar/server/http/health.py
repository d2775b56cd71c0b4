"""Is it alive, is it ready, what does it count: for machines that watch machines."""

from __future__ import annotations

from litestar import Response, get
from msgspec import Struct
from prometheus_client import CollectorRegistry, Gauge, ProcessCollector, generate_latest

from .auth import House, Loops


class Ready(Struct, frozen=True):
    ready: bool
    failing: dict[str, str]  # loop or subject -> its last failure
    silent: dict[str, str]  # rail or sink -> why it does not answer: worked on, no reason to be sent elsewhere


@get("/livez", summary="The process answers", security=[{}])
async def livez() -> dict[str, str]:
    return {"status": "alive"}


@get("/readyz", summary="200: the database answers and no loop is failing; 503: not so", security=[{}])
async def readyz(bursar: House, shell: Loops) -> Response[Ready]:
    await bursar.store.cursors()
    ready = not shell.failing.keys() & shell.loops.keys()
    return Response(Ready(ready, shell.failing, shell.silent), status_code=200 if ready else 503)


@get("/metrics", media_type="text/plain; version=0.0.4", summary="Prometheus' text format", security=[{}])
async def metrics(bursar: House, shell: Loops) -> bytes:
    registry, now = CollectorRegistry(), bursar.engine.now()
    ProcessCollector(registry=registry)
    position = Gauge("bursar_rail_position", "the last block that was read", ["rail"], registry=registry)
    lag = Gauge("bursar_rail_lag_seconds", "age of the watermark", ["rail"], registry=registry)
    silent = Gauge("bursar_silent", "1 while a rail or a sink does not answer", ["name"], registry=registry)
    for name, cursor in (await bursar.store.cursors()).items():
        position.labels(name).set(cursor.position)
        if cursor.watermark:
            lag.labels(name).set((now - cursor.watermark) / 1_000_000)
    for name in [*bursar.observers, *bursar.sinks]:
        silent.labels(name).set(name in shell.silent)
    Gauge("bursar_failing", "loops and subjects that fail", registry=registry).set(len(shell.failing))
    return generate_latest(registry)


ROUTES = [livez, readyz, metrics]
