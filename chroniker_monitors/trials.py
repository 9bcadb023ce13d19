"""A probe that is tried before it is saved, in a guarded process of its own.

The web worker starts a fresh interpreter, which forks: the probe runs in the child, and its
parent, the guard, is a child subreaper that ends whatever is left when the probe has answered,
when its time is up, or when the web worker dies. So a probe that hangs, eats memory or calls
``os._exit`` costs the worker nothing but the wait.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import psutil

from chroniker.warden import become_subreaper, die_with_parent

from .enums import Severity
from .exceptions import TooManyTrials
from .taken import Taken, unknown
from .thresholds import Thresholds

MOST_SECONDS = 60.0
"""A trial takes no longer, whatever the time limit of the probe: a person waits for it."""
GRACE_SECONDS = 2.0
"""What a probe may take beyond its limit to say itself that it was too slow."""
START_SECONDS = 30.0
"""What the fresh interpreter may take to load the site."""
MOST_AT_ONCE = 4
"""Of one process of the site: each takes an interpreter, and a click costs nothing."""
_MOST_BYTES = 1_000_000

_places = threading.BoundedSemaphore(MOST_AT_ONCE)


def try_probe(
    kind: str, params: Mapping[str, Any], thresholds: Thresholds, *, timeout: float, unit: str = ""
) -> Taken:
    """Measure once and record nothing; whatever goes wrong is an unknown with the reason.

    Raises TooManyTrials.
    """
    with place():
        return _try(kind, params, thresholds, timeout=min(timeout, MOST_SECONDS), unit=unit)


@contextlib.contextmanager
def place() -> Iterator[None]:
    """One of the places for those that are tried. Raises TooManyTrials."""
    if not _places.acquire(blocking=False):
        raise TooManyTrials(
            f"{MOST_AT_ONCE} monitors are being tried at this moment; try again in a minute."
        )
    try:
        yield
    finally:
        _places.release()


def _try(
    kind: str, params: Mapping[str, Any], thresholds: Thresholds, *, timeout: float, unit: str
) -> Taken:
    order = {
        "kind": kind,
        "params": dict(params),
        "thresholds": asdict(thresholds),
        "timeout": timeout,
        "unit": unit,
    }
    process = subprocess.Popen(
        [_python(), "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_environment(),
        start_new_session=True,
    )
    try:
        answer, complaints = process.communicate(
            json.dumps(order).encode(), timeout=timeout + GRACE_SECONDS + START_SECONDS
        )
    except subprocess.TimeoutExpired:
        _end([psutil.Process(process.pid), *_descendants(process.pid)])
        process.communicate()
        return unknown("The process that should have tried it did not answer.")
    finally:
        if process.poll() is None:
            _end([psutil.Process(process.pid), *_descendants(process.pid)])
            process.wait()
    return _read(answer) or unknown(
        "The process that should have tried it failed: "
        + (complaints.decode("utf-8", "replace").strip().rpartition("\n")[2] or "it said nothing.")
    )


def _python() -> str:
    """The interpreter. Inside uWSGI ``sys.executable`` is uWSGI."""
    if "python" in os.path.basename(sys.executable or ""):
        return sys.executable
    return os.path.join(sys.prefix, "bin", "python3")


def _environment() -> dict[str, str]:
    from django.conf import settings

    module = getattr(settings, "SETTINGS_MODULE", None)
    return {
        **os.environ,
        **({"DJANGO_SETTINGS_MODULE": module} if module else {}),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }


def _read(answer: bytes) -> Taken | None:
    with contextlib.suppress(ValueError, TypeError, KeyError):
        told = json.loads(answer)
        return Taken(**{**told, "severity": Severity(told["severity"])})
    return None


def main() -> None:
    """The guard: in a fresh interpreter, told by standard input what to try."""
    parent = os.getppid()
    become_subreaper()
    die_with_parent(parent)
    order = json.loads(sys.stdin.buffer.read())
    answer = os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)  # what a probe prints is no answer

    import django

    django.setup()
    taken = _guarded(order)
    with os.fdopen(answer, "w") as pipe:
        json.dump(asdict(taken), pipe)


def _guarded(order: dict[str, Any]) -> Taken:
    reader, writer = os.pipe()
    guard = os.getpid()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(reader)
            os.dup2(1, 2)  # nor is it a complaint, which the web worker would hold in memory
            die_with_parent(guard)
            os.write(writer, json.dumps(asdict(_measure(order))).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    told = _wait(reader, time.monotonic() + order["timeout"] + GRACE_SECONDS)
    late = told is None
    _end(_descendants(guard))
    _, status = os.waitpid(pid, 0)
    if late:
        return unknown(f"No result within {order['timeout']:g} s; it was ended.", order["timeout"])
    code = os.waitstatus_to_exitcode(status)
    how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
    return _read(told or b"") or unknown(f"The probe's process ended {how} before it measured.")


def _measure(order: dict[str, Any]) -> Taken:
    from .measuring import take
    from .recording import masked

    return masked(
        take(
            order["kind"],
            order["params"],
            Thresholds(**order["thresholds"]),
            timeout=order["timeout"],
            unit=order["unit"],
        )
    )


def _wait(reader: int, deadline: float) -> bytes | None:
    """What the probe's process wrote to its end; None where it did not end in time."""
    told = b""
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            return None
        piece = os.read(reader, 65536)
        if not piece or len(told) > _MOST_BYTES:
            return told
        told += piece
        if _read(told) is not None:
            return told  # what it has started may hold the pipe open


def _descendants(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).children(recursive=True)
    return []


def _end(processes: list[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()


if __name__ == "__main__":
    main()
