"""Run a probe that is not saved yet, in its own supervised process ("Test now").

The web worker starts a fresh interpreter, which forks. The probe runs in the child. Its parent,
the guard, is a child subreaper: it ends every process that is left when the probe has returned,
when its time is up, or when the web worker dies. So a probe that hangs, exhausts memory or calls
``os._exit`` costs the web worker only the time that it waits.

The fresh interpreter imports this module before ``django.setup()``: nothing that is imported
here at module level may need settings or models.
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
from dataclasses import asdict, dataclass

from chroniker import prometheus_files, startup
from chroniker.db.connections import before_fork
from chroniker.processes.process_tree import descendants, signal_processes
from chroniker.processes.warden import become_subreaper, die_with_parent
from chroniker_monitors.enums import COMMAND
from chroniker_monitors.exceptions import SandboxBusy
from chroniker_monitors.thresholds import Thresholds

from .measurement import Measurement, measure_kind, unknown_measurement

MAX_SECONDS = 60.0
"""The maximum time limit, even if the probe has a longer one: a person is waiting."""
GRACE_SECONDS = 2.0
"""How long after its time limit a probe may still report that it was too slow."""
STARTUP_SECONDS = 30.0
"""How long the fresh interpreter may take to load the site."""
MAX_SANDBOXES = 4
"""The limit of one process of the site: each sandbox is an interpreter, started by a click."""
_MAX_RESULT_BYTES = 1_000_000
_MANAGE_VARIABLE = "CHRONIKER_MANAGE_PY"

_sandboxes = threading.BoundedSemaphore(MAX_SANDBOXES)


@dataclass(frozen=True, slots=True)
class _Request:
    """What the guard is asked to measure, as it is written to its standard input."""

    kind: str
    params: Mapping[str, object]
    thresholds: Thresholds
    timeout: float
    unit: str

    def to_json(self) -> bytes:
        fields = {
            "kind": self.kind,
            "params": dict(self.params),
            "thresholds": asdict(self.thresholds),
            "timeout": self.timeout,
            "unit": self.unit,
        }
        return json.dumps(fields).encode()

    @classmethod
    def from_json(cls, data: bytes) -> _Request:
        fields = json.loads(data)
        return cls(**{**fields, "thresholds": Thresholds(**fields["thresholds"])})


def run_in_sandbox(
    kind: str,
    params: Mapping[str, object],
    thresholds: Thresholds,
    *,
    timeout: float,
    unit: str = "",
) -> Measurement:
    """Measure once without recording. A failure is an unknown measurement with the reason.

    Raises SandboxBusy, and OpenTransaction: the probe would not see what is not committed, and in
    a ``TestCase`` it would measure another database.
    """
    from chroniker.db.open_transactions import refuse_open_transactions

    refuse_open_transactions(except_requests=True)
    request = _Request(kind, params, thresholds, min(timeout, MAX_SECONDS), unit)
    with reserve_sandbox():
        return _run_process(request)


@contextlib.contextmanager
def reserve_sandbox() -> Iterator[None]:
    """Count a sandbox against :data:`MAX_SANDBOXES`. Raises SandboxBusy."""
    if not _sandboxes.acquire(blocking=False):
        raise SandboxBusy(
            f"{MAX_SANDBOXES} monitors are being tested at the moment; try again in a minute."
        )
    try:
        yield
    finally:
        _sandboxes.release()


def _run_process(request: _Request) -> Measurement:
    with subprocess.Popen(
        [_python_executable(), "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_environment(),
        start_new_session=True,
    ) as process:
        try:
            result_data, stderr_output = process.communicate(
                request.to_json(), timeout=request.timeout + GRACE_SECONDS + STARTUP_SECONDS
            )
        except subprocess.TimeoutExpired:
            return unknown_measurement("The test process did not answer.")
        finally:
            if process.poll() is None:
                signal_processes([process.pid, *descendants(process.pid)], signal.SIGKILL)
    last_line = stderr_output.decode("utf-8", "replace").strip().rpartition("\n")[2]
    return _parse_result(result_data) or unknown_measurement(
        f"The test process failed: {last_line or 'it wrote nothing to stderr.'}"
    )


def _python_executable() -> str:
    """The path of the interpreter. In uWSGI, ``sys.executable`` is uWSGI."""
    if "python" in os.path.basename(sys.executable or ""):
        return sys.executable
    return os.path.join(sys.prefix, "bin", "python3")


def _environment() -> dict[str, str]:
    from django.conf import settings

    module = getattr(settings, "SETTINGS_MODULE", None)
    environment = {
        **os.environ,
        **({"DJANGO_SETTINGS_MODULE": module} if module else {}),
        _MANAGE_VARIABLE: startup.find_manage_py(),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    prometheus_files.drop_variables(environment)
    return environment


def _parse_result(result_data: bytes) -> Measurement | None:
    with contextlib.suppress(ValueError, TypeError, KeyError):
        return Measurement.from_dict(json.loads(result_data))
    return None


def main() -> None:
    """Run the guard. It reads the request from stdin and writes the result to stdout."""
    parent = os.getppid()
    become_subreaper()
    die_with_parent(parent)
    request = _Request.from_json(sys.stdin.buffer.read())
    result_data = os.dup(1)
    null_fd = os.open(os.devnull, os.O_RDWR)
    os.dup2(null_fd, 0)
    os.dup2(null_fd, 1)  # the result pipe must not receive what a probe prints

    startup.start_django(os.environ.pop(_MANAGE_VARIABLE, ""), COMMAND)
    measurement = _run_guarded(request)
    with os.fdopen(result_data, "w") as pipe:
        json.dump(asdict(measurement), pipe)


def _run_guarded(request: _Request) -> Measurement:
    reader, writer = os.pipe()
    guard = os.getpid()
    before_fork()  # the site's start-up may have opened a connection
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(reader)
            os.dup2(1, 2)  # the web worker would hold a probe's stderr in memory
            die_with_parent(guard)
            os.write(writer, json.dumps(asdict(_measure_request(request))).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    result = _read_result(reader, time.monotonic() + request.timeout + GRACE_SECONDS)
    timed_out = result is None
    signal_processes(descendants(guard), signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if timed_out:
        return unknown_measurement(
            f"No result within {request.timeout:g} s; the probe was ended.", request.timeout
        )
    code = os.waitstatus_to_exitcode(status)
    ending = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
    return _parse_result(result or b"") or unknown_measurement(
        f"The probe's process ended {ending} before it measured."
    )


def _measure_request(request: _Request) -> Measurement:
    from .recorder import mask_measurement

    return mask_measurement(
        measure_kind(
            request.kind,
            request.params,
            request.thresholds,
            timeout=request.timeout,
            unit=request.unit,
        )
    )


def _read_result(reader: int, deadline: float) -> bytes | None:
    """Read the result until the pipe is closed or complete; None at the deadline."""
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
            return result  # a process started by the probe may hold the pipe open


if __name__ == "__main__":
    main()
