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

from chroniker.processes.warden import become_subreaper, die_with_parent
from chroniker_monitors.enums import Severity
from chroniker_monitors.exceptions import SandboxBusy
from chroniker_monitors.thresholds import Thresholds

from .measurement import Measurement, unknown_measurement

MAX_SECONDS = 60.0
"""A trial takes no longer, whatever the time limit of the probe: a person waits for it."""
GRACE_SECONDS = 2.0
"""What a probe may take beyond its limit to say itself that it was too slow."""
STARTUP_SECONDS = 30.0
"""What the fresh interpreter may take to load the site."""
MAX_SANDBOXES = 4
"""Of one process of the site: each takes an interpreter, and a click costs nothing."""
_MAX_RESULT_BYTES = 1_000_000

_sandboxes = threading.BoundedSemaphore(MAX_SANDBOXES)


def run_in_sandbox(
    kind: str, params: Mapping[str, Any], thresholds: Thresholds, *, timeout: float, unit: str = ""
) -> Measurement:
    """Measure once and record nothing; whatever goes wrong is an unknown with the reason.

    Raises TooManyTrials.
    """
    with reserve_sandbox():
        return _run_process(kind, params, thresholds, timeout=min(timeout, MAX_SECONDS), unit=unit)


@contextlib.contextmanager
def reserve_sandbox() -> Iterator[None]:
    """One of the places for those that are tried. Raises TooManyTrials."""
    if not _sandboxes.acquire(blocking=False):
        raise SandboxBusy(
            f"{MAX_SANDBOXES} monitors are being tried at this moment; try again in a minute."
        )
    try:
        yield
    finally:
        _sandboxes.release()


def _run_process(
    kind: str, params: Mapping[str, Any], thresholds: Thresholds, *, timeout: float, unit: str
) -> Measurement:
    request = {
        "kind": kind,
        "params": dict(params),
        "thresholds": asdict(thresholds),
        "timeout": timeout,
        "unit": unit,
    }
    process = subprocess.Popen(
        [_python_executable(), "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_environment(),
        start_new_session=True,
    )
    try:
        result_data, stderr_output = process.communicate(
            json.dumps(request).encode(), timeout=timeout + GRACE_SECONDS + STARTUP_SECONDS
        )
    except subprocess.TimeoutExpired:
        _kill([psutil.Process(process.pid), *_descendants(process.pid)])
        process.communicate()
        return unknown_measurement("The process that should have tried it did not answer.")
    finally:
        if process.poll() is None:
            _kill([psutil.Process(process.pid), *_descendants(process.pid)])
            process.wait()
    return _parse_result(result_data) or unknown_measurement(
        "The process that should have tried it failed: "
        + (
            stderr_output.decode("utf-8", "replace").strip().rpartition("\n")[2]
            or "it said nothing."
        )
    )


def _python_executable() -> str:
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


def _parse_result(result_data: bytes) -> Measurement | None:
    with contextlib.suppress(ValueError, TypeError, KeyError):
        result = json.loads(result_data)
        return Measurement(**{**result, "severity": Severity(result["severity"])})
    return None


def main() -> None:
    """The guard: in a fresh interpreter, told by standard input what to try."""
    parent = os.getppid()
    become_subreaper()
    die_with_parent(parent)
    request = json.loads(sys.stdin.buffer.read())
    result_data = os.dup(1)
    null_fd = os.open(os.devnull, os.O_RDWR)
    os.dup2(null_fd, 0)
    os.dup2(null_fd, 1)  # what a probe prints is no answer

    import django

    django.setup()
    measurement = _run_guarded(request)
    with os.fdopen(result_data, "w") as pipe:
        json.dump(asdict(measurement), pipe)


def _run_guarded(request: dict[str, Any]) -> Measurement:
    reader, writer = os.pipe()
    guard = os.getpid()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(reader)
            os.dup2(1, 2)  # nor is it a complaint, which the web worker would hold in memory
            die_with_parent(guard)
            os.write(writer, json.dumps(asdict(_measure_request(request))).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    result = _read_result(reader, time.monotonic() + request["timeout"] + GRACE_SECONDS)
    timed_out = result is None
    _kill(_descendants(guard))
    _, status = os.waitpid(pid, 0)
    if timed_out:
        return unknown_measurement(
            f"No result within {request['timeout']:g} s; it was ended.", request["timeout"]
        )
    code = os.waitstatus_to_exitcode(status)
    ending = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
    return _parse_result(result or b"") or unknown_measurement(
        f"The probe's process ended {ending} before it measured."
    )


def _measure_request(request: dict[str, Any]) -> Measurement:
    from .measuring import measure_kind
    from .recorder import mask_measurement

    return mask_measurement(
        measure_kind(
            request["kind"],
            request["params"],
            Thresholds(**request["thresholds"]),
            timeout=request["timeout"],
            unit=request["unit"],
        )
    )


def _read_result(reader: int, deadline: float) -> bytes | None:
    """What the probe's process wrote to its end; None where it did not end in time."""
    result = b""
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            return None
        piece = os.read(reader, 65536)
        if not piece or len(result) > _MAX_RESULT_BYTES:
            return result
        result += piece
        if _parse_result(result) is not None:
            return result  # what it has started may hold the pipe open


def _descendants(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).children(recursive=True)
    return []


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()


if __name__ == "__main__":
    main()
