"""The answers at ``/health`` and ``/ready``."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from .readiness import ReadinessProbe

HEALTH, READY = PATHS = ("/health", "/ready")
CONTENT_TYPE = "application/json"


@dataclass(frozen=True, slots=True)
class HealthResponse:
    """A status code and a JSON body."""

    status: int
    body: bytes


def respond(path: str, is_alive: Callable[[], bool], readiness: ReadinessProbe) -> HealthResponse:
    """Answer a request for one of PATHS."""
    if path == HEALTH:
        alive = is_alive()
        return _response(alive, {"status": "ok" if alive else "stalled"})
    result = readiness.read()
    return _response(result.ok, result.as_dict())


def _response(ok: bool, content: object) -> HealthResponse:
    return HealthResponse(200 if ok else 503, json.dumps(content).encode() + b"\n")
