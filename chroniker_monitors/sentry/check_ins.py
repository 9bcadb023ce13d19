"""Check-ins of scheduled jobs, sent by the process of the tick."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from chroniker.enums import RunStatus, Trigger

from .client import Mask, active_client, flush_at_exit, secrets_mask
from .schedules import sentry_schedule

if TYPE_CHECKING:
    from sentry_sdk._types import MonitorConfig

    from chroniker.models import Job, Run

DEFAULT_MARGIN_SECONDS = 300
"""How late a job without a start deadline may check in before Sentry calls it missed."""

_NOT_FAILED = (RunStatus.SUCCEEDED, RunStatus.INTERRUPTED)

SLUG_LENGTH = 50
_DIGEST = 8  # hex digits; among ten thousand jobs, the chance that two share one is 1 %
# Compiled when first used: an idle tick uses none.
_PLAIN = r"(?![0-9]+$)[a-z0-9][a-z0-9_-]{0,49}"
_DIGESTED = r".*-[0-9a-f]{8}"

# Sentry rejects a check-in whose monitor exceeds these limits.
_MAX_MINUTES = 28 * 24 * 60
_MAX_FAILURES = 720


def check_in_start(sender: object, *, run: Run, job: Job, **kwargs: object) -> None:
    """Report the start of a run."""
    _check_in("in_progress", run, job)


def check_in_end(sender: object, *, run: Run, job: Job, **kwargs: object) -> None:
    """Report the end of a run, also of a lost run that another host started.

    An interrupted run is no failure, and Sentry has no status for it. Its restart is a check-in of
    its own.
    """
    _check_in("ok" if run.status in _NOT_FAILED else "error", run, job)


def _check_in(status: str, run: Run, job: Job) -> None:
    client = active_client()
    if client is None or not job.schedule:
        return  # a job without a schedule cannot be late
    if not job.enabled and run.trigger == Trigger.MANUAL:
        return
    from sentry_sdk.crons import capture_checkin

    flush_at_exit()
    slug = make_slug(job.name, run.host, secrets_mask())
    capture_checkin(
        monitor_slug=slug,
        check_in_id=check_in_id(run, slug, client.options.get("environment") or ""),
        status=status,
        duration=run.duration_seconds if status != "in_progress" else None,
        monitor_config=monitor_config(job),
    )


def check_in_id(run: Run, slug: str, environment: str) -> str:
    """Compute the id of a run's check-in, the same on every host.

    So any host that records the end of the run closes its check-in. The environment separates
    sites that share a Sentry project and, perhaps, a copied database.
    """
    from uuid import NAMESPACE_URL, uuid5

    # The timestamp does not depend on the time zone in which the driver returns it.
    slot = int(run.scheduled_for.timestamp() * 1_000_000)
    return uuid5(NAMESPACE_URL, f"chroniker:{environment}:{slug}:{run.pk}:{slot}").hex


def make_slug(name: str, host: str = "", mask: Mask = str) -> str:
    """Make the slug of a job's monitor: unique among jobs, at most 50 characters.

    A name that is already a slug is kept. Any other name loses characters, so a piece of its hash
    keeps it unique. A job that runs on every host has one monitor for each host.
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


def monitor_config(job: Job) -> MonitorConfig | None:
    """Describe to Sentry what to expect of a job; None if Sentry cannot express its schedule."""
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
        # Sentry's default of half an hour would report longer runs as failed.
        "max_runtime": _minutes(max_duration) if max_duration else _MAX_MINUTES,
        "failure_issue_threshold": min(max(job.failures_before_alert, 1), _MAX_FAILURES),
        "recovery_threshold": 1,
    }


def _minutes(seconds: float) -> int:
    return min(max(int(-(-seconds // 60)), 1), _MAX_MINUTES)
