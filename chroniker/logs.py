"""The scheduler's own log: what each record is about, and records as JSON."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TextIO

from .conf import conf
from .exceptions import ChronikerError

if TYPE_CHECKING:
    from .models import Incident, Job, Run

_LOGGERS = ("chroniker", "chroniker_monitors")

logger = logging.getLogger(__name__)


def log_context(
    *, job: str | None = None, run: int | None = None, host: str | None = None
) -> dict[str, object]:
    """The ``extra`` of a log record: the name of a job, the primary key of a run, and the host.

    ``host``: this one unless given.
    """
    return {"job": job, "run": run, "host": host or conf.HOSTNAME}


class JsonFormatter(logging.Formatter):
    """One JSON object a record, on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record with time (UTC), level, logger, message, job, run and host."""
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        known = log_context()
        entry |= {name: getattr(record, name, known[name]) for name in known}
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str, ensure_ascii=False)


class JsonHandler(logging.StreamHandler[TextIO]):
    """Writes records as JSON, in place of the site's handlers."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self.setFormatter(JsonFormatter())


@contextlib.contextmanager
def scheduler_log() -> Iterator[None]:
    """With CHRONIKER_LOG_JSON, the log of the scheduler as JSON; without it, as the site wants it.

    With JSON, an error that would end the command as a sentence ends it as a record.
    """
    if not conf.LOG_JSON:
        yield
        return
    handler = JsonHandler()
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [(each, each.propagate) for each in loggers]
    for each in loggers:
        each.addHandler(handler)
        each.propagate = False
    _connect()
    try:
        yield
    except ChronikerError as error:
        logger.critical("%s", error, extra=log_context())
        raise SystemExit(1) from error
    finally:
        for each, propagate in before:
            each.removeHandler(handler)
            each.propagate = propagate


def remove_json_handlers() -> None:
    """In the process of a job: what it logs is the run's output, in the format of the site."""
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        for handler in [each for each in logger.handlers if isinstance(each, JsonHandler)]:
            logger.removeHandler(handler)
            logger.propagate = True


def _connect() -> None:
    from . import signals

    signals.run_started.connect(_log_start, dispatch_uid="chroniker.logs.start")
    signals.run_finished.connect(_log_end, dispatch_uid="chroniker.logs.end")
    signals.run_missed.connect(_log_end, dispatch_uid="chroniker.logs.missed")
    signals.incident_opened.connect(_log_incident, dispatch_uid="chroniker.logs.opened")
    signals.incident_resolved.connect(_log_incident, dispatch_uid="chroniker.logs.resolved")


def _log_start(sender: object, run: Run, job: Job, **kwargs: object) -> None:
    if conf.LOG_JSON:
        context = log_context(job=job.name, run=run.pk)
        logger.info("Run %s of job %s has started", run.pk, job.name, extra=context)


def _log_end(sender: object, run: Run, job: Job, **kwargs: object) -> None:
    if conf.LOG_JSON:
        context = log_context(job=job.name, run=run.pk, host=run.ran_on)
        logger.info("Run %s of job %s: %s", run.pk, job.name, run.status, extra=context)


def _log_incident(sender: object, incident: Incident, job: Job | None, **kwargs: object) -> None:
    if conf.LOG_JSON:
        state = "has opened" if incident.is_open else f"is closed: {incident.resolution}"
        name = job.name if job else None
        context = log_context(job=name, run=incident.last_run_id, host=incident.host)
        logger.info("Incident %s (%s) %s", incident.pk, incident, state, extra=context)
