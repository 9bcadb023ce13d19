"""In a job's process: run the command, capture logging, report the error.

The warden's child calls :func:`run_in_fork`; a spawned job starts as
``python -m chroniker.processes.child``. The exit code of the process is the result.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from types import TracebackType
from typing import IO, NamedTuple

from chroniker import startup
from chroniker.enums import Trigger
from chroniker.exceptions import CommandRefused, TaskNotSuccessful
from chroniker.masking import shorten
from chroniker.run_context import CurrentRun

from .console import Console, replace_consoles

SPEC_VARIABLE = "CHRONIKER_SPEC"
REPORT_VARIABLE = "CHRONIKER_REPORT_FD"
LOG_VARIABLE = "CHRONIKER_LOG_FD"
PATH_VARIABLE = "CHRONIKER_OUTER_PYTHONPATH"
"""Environment variable: the original PYTHONPATH, for programs that a spawned job starts."""
MANAGE_VARIABLE = "CHRONIKER_MANAGE_PY"
"""Environment variable: the ``manage.py`` that a spawned job starts Django with."""
_MAX_REPORT = 3000  # bytes; below PIPE_BUF (4096 on Linux), so one write is atomic: pipe(7)


@dataclass(frozen=True, slots=True)
class CommandSpec:
    """What a job's process has to run."""

    run_id: int
    job_name: str
    command: str
    args: tuple[str, ...]
    log_level: str | int
    log_format: str
    scheduled_for: str
    """ISO 8601, UTC."""
    attempt: int
    trigger: str
    fence: int
    traceparent: str = ""
    task: str = ""
    """The dotted path of a task that is run instead of the command."""
    task_arguments: str = ""
    """JSON of :class:`chroniker.site_tasks.TaskArguments`."""
    enqueue: bool = False
    """Whether the task is sent to its backend, and followed to its result."""

    def current_run(self) -> CurrentRun:
        """What the job may know of its run."""
        return CurrentRun(
            run_id=self.run_id,
            job_name=self.job_name,
            scheduled_for=datetime.fromisoformat(self.scheduled_for),
            attempt=self.attempt,
            trigger=Trigger(self.trigger),
            fence=self.fence,
            traceparent=self.traceparent,
        )

    def dump(self) -> str:
        """Serialize it for the environment of a spawned job."""
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> CommandSpec:
        """Read what :meth:`dump` returned."""
        values = json.loads(text)
        return cls(**{**values, "args": tuple(values["args"])})


class CommandEnd(NamedTuple):
    """How a command or a task ended."""

    code: int
    """The exit code."""
    error: str
    """In one line; empty if the exit code is 0."""
    lost: bool = False
    """Whether nobody knows how the task ended that its backend has executed."""


def execute(spec: CommandSpec, report: int, log: int, consoles: set[object]) -> int:
    """Run the command and return its exit code; the error is written to descriptor ``report``.

    ``consoles`` are the streams that handlers of ``logging`` may use as the console.
    """
    from chroniker.logs import remove_json_handlers
    from chroniker.signals import job_process_started

    remove_json_handlers()
    report_pipe = os.fstat(report)
    capture_logging(log, spec.log_level, spec.log_format, consoles | _consoles())
    job_process_started.send_robust(sender=None, spec=spec)
    end = run_command(spec, lambda text: _report(report, note=text))
    try:
        run_exit_handlers()
    except BaseException as raised:
        if not end.code:
            end = CommandEnd(1, end.error or f"At exit: {type(raised).__name__}: {raised}")
        _write_stderr(traceback.format_exc())
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    # If the job has closed all files, this number may now belong to one of its own files.
    with contextlib.suppress(OSError):
        if os.path.samestat(os.fstat(report), report_pipe):
            _report(report, error=end.error, **({"lost": "yes"} if end.lost else {}))
    return end.code & 0xFF


def run_command(spec: CommandSpec, note: Callable[[str], None] | None = None) -> CommandEnd:
    """Run the command or the task.

    Only a return, ``SystemExit(None)`` and ``SystemExit(0)`` are a success. ``note`` keeps a
    sentence for the case that the run is ended from outside.
    """
    if spec.task:
        from chroniker.task_runs.call import call_task

        return attempt(spec, lambda: call_task(spec, note or (lambda text: None)))
    from django.core.management import call_command

    return attempt(spec, lambda: call_command(spec.command, *spec.args))


def attempt(spec: CommandSpec, action: Callable[[], object]) -> CommandEnd:
    """Call what a run executes.

    What it raises is written to stderr, and sent as the signal ``job_raised``.
    """
    from django.core.management.base import CommandError, SystemCheckError

    code, error, lost = 0, "", False
    try:
        action()
    except SystemExit as ended:
        code, error = _exit_code(ended)
    except SystemCheckError as refused:
        code, error = 1, "System checks failed; see stderr."
        _write_stderr(f"{refused}\n")
        _send_job_raised(spec, refused)
    except CommandError as refused:
        code, error = refused.returncode or 1, f"CommandError: {refused}"
        _write_stderr(f"{error}\n")
        _send_job_raised(spec, refused)
    except CommandRefused as refused:
        code, error = 1, str(refused)
        _write_stderr(f"{error}\n")
    except TaskNotSuccessful as ended:  # its traceback is the worker's
        code, error, lost = 1, str(ended), ended.lost
    except KeyboardInterrupt:
        code, error = 130, "KeyboardInterrupt"
    except BaseException as raised:
        code, error = 1, "".join(traceback.format_exception_only(raised)).strip()
        _write_stderr(
            "".join(traceback.format_exception(type(raised), raised, _own_traceback(raised)))
        )
        _send_job_raised(spec, raised)
    return CommandEnd(code, error, lost)


def _write_stderr(text: str) -> None:
    """Write to stderr, unless the job has closed or replaced it."""
    with contextlib.suppress(Exception):
        sys.stderr.write(text)


def _exit_code(ended: SystemExit) -> tuple[int, str]:
    """Return exit code and reason as the interpreter itself reads ``SystemExit``."""
    code = ended.code
    if code is None:
        return 0, ""
    if isinstance(code, int):
        # exit(256) is 0 for the shell, but the job did not mean success
        return (code & 0xFF or (1 if code else 0)), f"exit code {code}" if code else ""
    try:
        reason = str(code)
    except Exception:
        reason = f"exit with an unprintable {type(code).__name__}"
    _write_stderr(f"{reason}\n")
    return 1, reason


def _send_job_raised(spec: CommandSpec, raised: BaseException) -> None:
    """Send the signal ``job_raised``, for receivers such as an error tracker."""
    from chroniker.signals import job_raised

    job_raised.send_robust(sender=None, spec=spec, error=raised, traceback=_own_traceback(raised))


def _own_traceback(raised: BaseException) -> TracebackType | None:
    """Return the traceback without the frames of Chroniker and of Django's management."""
    frame = raised.__traceback__
    while frame is not None and frame.tb_frame.f_globals.get("__name__") in (
        __name__,
        "chroniker.processes.batch_worker",
        "chroniker.task_runs.call",
        "django.core.management",
        "django.core.management.base",
        "django.tasks.base",
        "django_tasks.base",
    ):
        frame = frame.tb_next
    return frame or raised.__traceback__


def run_exit_handlers() -> None:
    """Do what the interpreter does at exit: wait for threads, run the registered handlers."""
    vars(threading)["_shutdown"]()
    atexit._run_exitfuncs()
    logging.shutdown()


def _report(fd: int, **facts: str) -> None:
    """Write what the supervisor has to know; long texts are cut."""
    length = _MAX_REPORT // 2
    while any(facts.values()):
        cut = {name: shorten(text, length) for name, text in facts.items()}
        line = json.dumps(cut).encode() + b"\n"
        if len(line) <= _MAX_REPORT:
            with contextlib.suppress(OSError):
                os.write(fd, line)
            break
        length //= 2


class _Capture(logging.StreamHandler[IO[str]]):
    """Writes the records that no other handler has written to the same stream."""

    def emit(self, record: logging.LogRecord) -> None:
        if not getattr(record, "_chroniker_written", False):
            super().emit(record)


def _mark_written(record: logging.LogRecord) -> bool:
    record._chroniker_written = True
    return True


def _consoles() -> set[object]:
    return {sys.__stdout__, sys.__stderr__, sys.stdout, sys.stderr}


def capture_logging(fd: int, level: str | int, fmt: str, consoles: set[object]) -> None:
    """Send log records to ``fd``, because logging is neither output nor an error.

    The site's handlers that write to the console are redirected and keep their levels, filters and
    formats. Records from ``level`` up that they do not write are written by our own handler.
    If needed, the level of the root logger is lowered; its other handlers then still get only the
    records that they received before.
    """
    stream = Console(fd)
    for handler in _all_handlers():
        if isinstance(handler, logging.StreamHandler) and handler.stream in consoles:
            handler.setStream(stream)
            handler.addFilter(_mark_written)
    root = logging.getLogger()
    capture = _Capture(stream)
    capture.setFormatter(logging.Formatter(fmt))
    capture.setLevel(level)
    if root.level > capture.level:
        before = root.level
        for handler in root.handlers:
            handler.addFilter(
                lambda record: record.levelno >= _effective_level(record.name, before)
            )
        root.setLevel(capture.level)
    root.addHandler(capture)


def _effective_level(name: str, root_level: int) -> int:
    """Return the effective level of a logger as if the root logger had ``root_level``."""
    logger: logging.Logger | None = logging.getLogger(name)
    while logger is not None and logger.parent is not None:
        if logger.level:
            return logger.level
        logger = logger.parent
    return root_level


def _all_handlers() -> Iterable[logging.Handler]:
    loggers: list[object] = [logging.getLogger(), *logging.Logger.manager.loggerDict.values()]
    seen: dict[int, logging.Handler] = {}
    for logger in loggers:
        for handler in getattr(logger, "handlers", ()):
            seen[id(handler)] = handler
    return seen.values()


def run_in_fork(spec: CommandSpec, report: int, log: int) -> int:
    """Run a forked job: make this copy of the scheduler look like a fresh interpreter first."""
    return execute(spec, report, log, become_fresh())


def become_fresh() -> set[object]:
    """Make a forked process look like a fresh interpreter; return its former console streams.

    Handlers of ``logging`` were created with those streams.
    """
    import gc

    from django.core.cache import caches

    from chroniker.db.connections import forget_inherited_connections

    atexit._clear()  # the handlers of the parent are not for this process
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    consoles = _consoles()
    replace_consoles()
    forget_inherited_connections()  # they were closed before the fork; this makes sure
    caches.close_all()
    gc.enable()
    return consoles


def main() -> None:
    """Run a spawned job in a fresh interpreter; the environment holds the command."""
    spec = CommandSpec.load(os.environ.pop(SPEC_VARIABLE))
    report = int(os.environ.pop(REPORT_VARIABLE))
    log = int(os.environ.pop(LOG_VARIABLE))
    for fd in (report, log):
        os.set_inheritable(fd, False)
    before = os.environ.pop(PATH_VARIABLE, "")
    os.environ.pop("PYTHONPATH", None)
    if before:
        os.environ["PYTHONPATH"] = before
    replace_consoles()
    try:
        startup.start_django(os.environ.pop(MANAGE_VARIABLE, ""), spec.command or "run_job")
    except BaseException as raised:
        traceback.print_exc()
        _report(report, error=f"Django could not be set up: {type(raised).__name__}: {raised}")
        os._exit(1)
    os._exit(execute(spec, report, log, set()))


def reset_signals() -> None:
    """Set the signal dispositions of a fresh process."""
    signal.set_wakeup_fd(-1)
    for number in (
        signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR1,
        signal.SIGUSR2, signal.SIGALRM, signal.SIGPIPE,
    ):  # fmt: skip
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Python itself ignores SIGPIPE, so that a closed pipe is an exception that a command can handle
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


if __name__ == "__main__":
    main()
