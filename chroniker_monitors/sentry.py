"""Sentry, where the site has set it up: check-ins of scheduled jobs, and what jobs raised.

Nothing here imports sentry-sdk. A site that uses it has imported and initialised it by the time a
signal comes; for all others a look into ``sys.modules`` is all it costs.

- In the tick: a check-in when a run starts and when it ends, handed to the SDK's own thread, which
  is waited for when the process ends and not before. Missed slots are left to Sentry, which knows
  the schedule and notices them by itself.
- In a job's process: tags, a mask over secrets, the exception as an event, and a flush.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import sys
import time
from functools import lru_cache
from types import TracebackType
from typing import TYPE_CHECKING, Any

from chroniker.conf import conf
from chroniker.enums import RunStatus, Trigger
from chroniker.signals import job_process_started, job_raised, run_finished, run_started

if TYPE_CHECKING:
    from chroniker.masking import Masker
    from chroniker.models import Job, Run
    from chroniker.processes.child import CommandSpec

FLUSH_SECONDS = 2.0
"""How long a process that has something to send waits for Sentry before it ends."""
DEFAULT_MARGIN_SECONDS = 300
"""How late a job without a start deadline may check in before Sentry calls it missed."""

SLUG_LENGTH = 50
_DIGEST = 8  # hex digits; two of ten thousand jobs share one with a chance of one in a hundred
# Compiled when first used: an idle tick uses none.
_PLAIN = r"(?![0-9]+$)[a-z0-9][a-z0-9_-]{0,49}"
_DIGESTED = r".*-[0-9a-f]{8}"

# Sentry refuses a check-in whose monitor lies outside of these.
_MAX_MINUTES = 28 * 24 * 60
_MAX_FAILURES = 720

_TAG_LENGTH = 200
_LOADER_PID = os.getpid()  # of the interpreter that loaded this; its forks have another
_inherited_transports: list[Any] = []
_registered_pids: set[int] = set()


def connect() -> None:
    """Listen to runs and jobs."""
    uid = "chroniker_monitors.sentry"
    run_started.connect(check_in_start, dispatch_uid=uid)
    run_finished.connect(check_in_end, dispatch_uid=uid)
    job_process_started.connect(prepare_job, dispatch_uid=uid)
    job_raised.connect(capture, dispatch_uid=uid)


def active_client() -> Any:
    """The SDK's client, where the site has given it a DSN; otherwise None."""
    get_client = getattr(sys.modules.get("sentry_sdk"), "get_client", None)
    client = get_client() if get_client else None
    return client if client is not None and client.is_active() and client.dsn else None


# --- check-ins, in the tick's process ---


def check_in_start(sender: Any, *, run: Run, job: Job, **kwargs: Any) -> None:
    """A run began."""
    _check_in("in_progress", run, job)


def check_in_end(sender: Any, *, run: Run, job: Job, **kwargs: Any) -> None:
    """A run ended; also one that another host had begun, and lost."""
    _check_in("ok" if run.status == RunStatus.SUCCEEDED else "error", run, job)


def _check_in(status: str, run: Run, job: Job) -> None:
    client = active_client()
    if client is None or not job.schedule:
        return  # a job that runs on demand only cannot be late
    if not job.enabled and run.trigger == Trigger.MANUAL:
        return
    from sentry_sdk.crons import capture_checkin

    _flush_at_exit()
    slug = make_slug(job.name, run.host, _masker().mask_text)
    capture_checkin(
        monitor_slug=slug,
        check_in_id=check_in_id(run, slug, client.options.get("environment") or ""),
        status=status,
        duration=run.duration_seconds if status != "in_progress" else None,
        monitor_config=monitor_config(job),
    )


def check_in_id(run: Run, slug: str, environment: str) -> str:
    """The same on every host, so that whoever records the end of a run closes its check-in.

    The environment tells apart sites that share a project, and perhaps a copied database.
    """
    from uuid import NAMESPACE_URL, uuid5

    # Whatever time zone the database's driver gives it in.
    slot = int(run.scheduled_for.timestamp() * 1_000_000)
    return uuid5(NAMESPACE_URL, f"chroniker:{environment}:{slug}:{run.pk}:{slot}").hex


def make_slug(name: str, host: str = "", mask: Any = str) -> str:
    """The name of a job's monitor, unique among jobs, within Sentry's 50 characters.

    A name that is a slug already stays as it is. Any other loses something on the way, so a piece
    of its hash keeps it apart from its likes. A job that runs on every host has a monitor on each.
    """
    from hashlib import sha256

    full_name = f"{name}@{host}" if host else name
    plain = re.fullmatch(_PLAIN, full_name) and not re.fullmatch(_DIGESTED, full_name)
    if plain and mask(full_name) == full_name:
        return full_name
    from django.utils.text import slugify

    readable = slugify(mask(full_name).replace("@", "-"))[: SLUG_LENGTH - _DIGEST - 1].strip("-_")
    digest = sha256(full_name.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST]
    return f"{readable or 'job'}-{digest}"


def monitor_config(job: Job) -> Any:
    """What Sentry is to expect of a job; None where it has no words for the schedule."""
    schedule = sentry_schedule(job.schedule, job.timezone, job.name)
    if schedule is None:
        return None
    margin_seconds = job.jitter_seconds + (job.start_deadline_seconds or DEFAULT_MARGIN_SECONDS)
    max_duration = job.expected_seconds
    if job.timeout_seconds:
        max_duration = job.timeout_seconds + int(job.grace_seconds)
    return {
        "schedule": schedule,
        "timezone": job.timezone,
        "checkin_margin": _minutes(margin_seconds),
        # Sentry's own default, half an hour, would call a long run failed that is allowed to be.
        "max_runtime": _minutes(max_duration) if max_duration else _MAX_MINUTES,
        "failure_issue_threshold": min(max(job.failures_before_alert, 1), _MAX_FAILURES),
        "recovery_threshold": 1,
    }


def _minutes(seconds: float) -> int:
    return min(max(int(-(-seconds // 60)), 1), _MAX_MINUTES)


@lru_cache(maxsize=1024)
def sentry_schedule(text: str, zone: str, name: str) -> dict[str, Any] | None:
    """A schedule as Sentry writes it; None where it cannot.

    It has cron of five fields in plain numbers, and intervals of whole minutes.
    """
    from chroniker.exceptions import ScheduleError
    from chroniker.schedules import parse

    try:
        schedule: Any = parse(text, zone=zone, name=name)
    except ScheduleError:
        return None
    if schedule.kind == "interval":
        return _interval(int(schedule.period.total_seconds()))
    if schedule.kind == "cron":
        return _crontab(schedule.fields)
    return None


def _interval(seconds: int) -> dict[str, Any] | None:
    for unit, length in (("week", 604800), ("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds % length == 0:
            return {"type": "interval", "value": seconds // length, "unit": unit}
    return None


_ITEM = r"(?:\*|([0-9]+)(?:-([0-9]+))?)(?:/[0-9]+)?"


def _crontab(fields: tuple[str, ...]) -> dict[str, Any] | None:
    """Aliases and hashed fields have been written out; L, W and # mean other things elsewhere."""
    fields = tuple("*" if field == "?" else field for field in fields)
    if fields[5:] not in ((), ("0",), ("0", "*")):
        return None
    for item in (item for field in fields[:5] for item in field.split(",")):
        found = re.fullmatch(_ITEM, item)
        if found is None or (found[2] is not None and int(found[1]) > int(found[2])):
            return None
    return {"type": "crontab", "value": " ".join(fields[:5])}


# --- events, in a job's process ---


def prepare_job(sender: Any, *, spec: CommandSpec, **kwargs: Any) -> None:
    """Make the SDK of a job's process fit for use, and its events recognisable."""
    client = active_client()
    if client is None:
        return
    import sentry_sdk

    scope = sentry_sdk.get_isolation_scope()
    if os.getpid() != _LOADER_PID:
        _renew_transport(client)
        scope.clear_breadcrumbs()  # what the scheduler did before the fork
    mask = _masker().mask_text
    for name, value in (
        ("chroniker.job", spec.job_name),
        ("chroniker.run", str(spec.run_id)),
        ("chroniker.host", conf.HOSTNAME),
        ("chroniker.command", spec.command),
    ):
        scope.set_tag(name, _tag(mask(value)))
    scope.set_transaction_name(_tag(mask(spec.job_name)), source="task")
    scope.add_event_processor(lambda event, hint: mask_event(event, mask))
    # What the job itself sends leaves as well: a fork has none of the scheduler's exit functions.
    _flush_at_exit()


def _renew_transport(client: Any) -> None:
    """A fork has its parent's queue and locks, and of its threads none.

    What is in the queue is the parent's to send, and who held a lock is not here to release it.
    """
    from sentry_sdk.transport import make_transport

    _inherited_transports.append(
        client.transport
    )  # closing its connections is not this process's business
    client.transport = make_transport(client.options)


def capture(
    sender: Any,
    *,
    spec: CommandSpec,
    error: BaseException,
    traceback: TracebackType | None,
    **kwargs: Any,
) -> None:
    """An exception ended the command: send it."""
    client = active_client()
    if client is None:
        return
    import sentry_sdk
    from sentry_sdk.utils import event_from_exception

    event, hint = event_from_exception(
        (type(error), error, traceback),
        client_options=client.options,
        mechanism={"type": "chroniker", "handled": False},
    )
    sentry_sdk.capture_event(event, hint=hint)


def _tag(text: str) -> str:
    """Text as Sentry takes it for the value of a tag."""
    return "".join(c if c.isprintable() else " " for c in text)[:_TAG_LENGTH] or " "


def mask_event(value: Any, mask: Any) -> Any:
    """An event with the secrets of all its texts masked, keys of mappings included."""
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, dict):
        return {mask_event(key, mask): mask_event(inner, mask) for key, inner in value.items()}
    if isinstance(value, list):
        return [mask_event(inner, mask) for inner in value]
    if isinstance(value, tuple):
        return tuple(mask_event(inner, mask) for inner in value)
    if type(value).__name__ == "AnnotatedValue":  # of the SDK: a value, and what was done to it
        value.value = mask_event(value.value, mask)
    return value


# --- both ---


@lru_cache(maxsize=1)
def _masker() -> Masker:
    """Masks the site's secrets, also as they look in the ``repr`` of a local variable."""
    from chroniker.masking import Masker, site_secrets

    secrets = site_secrets()
    return Masker(secrets | {repr(secret)[1:-1] for secret in secrets})


def _flush_at_exit() -> None:
    """Flush when this process ends, before the SDK does, which tells the console of its waiting."""
    if os.getpid() not in _registered_pids:
        _registered_pids.add(os.getpid())
        atexit.register(flush)


def flush() -> None:
    """Send what waits to be sent, within :data:`FLUSH_SECONDS`; after that nobody waits for it."""
    seconds = FLUSH_SECONDS
    client = active_client()
    if client is None or client.transport is None:
        return
    began = time.monotonic()
    with contextlib.suppress(Exception):  # a job does not fail because of its tracker
        client.flush(timeout=seconds, callback=lambda pending, timeout: None)
        if time.monotonic() - began >= seconds:
            client.close(timeout=0, callback=lambda pending, timeout: None)
