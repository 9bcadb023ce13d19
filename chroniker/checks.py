"""What ``manage.py check`` finds wrong with a site's settings, with stable ids.

========  ===================================================================================
E001      a setting is of a type that it cannot have
E002      a number is below its minimum
E003      leases are not renewed often enough: heartbeat against lease
E004      a setting has a value that is none of those there are
E005      the level from which log records are kept is not one of the ``logging`` module
E006      ``USE_TZ`` is off
E007      the format of log records cannot be used
E008      the buckets of the duration histogram are not rising numbers
E009      a list of names holds something else than names
E020      an address that is none of the web's
E021      a notifier that cannot be used
E022      the webhook has no secret to sign with
E023      the prefix of subjects is more than one line
E024      the callback for failed runs cannot be imported, or is nothing to call
E025      the URL of the dead man's switch cannot be fetched
W001      a setting's name is not known: a slip of the pen is otherwise never noticed
W002      SQLite is used as it comes, which ends in "database is locked"
========  ===================================================================================
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import connections, router
from django.utils.module_loading import import_string

from .conf import Setting, all_settings, conf

CHOICES = {
    "CHRONIKER_START_METHOD": ("fork", "spawn"),
    "CHRONIKER_EXECUTOR": ("local",),
}
"""Settings that take one of a few words."""

NAMES = ("CHRONIKER_ALLOWED_COMMANDS", "CHRONIKER_SECRET_NAMES", "CHRONIKER_NOTIFIERS")
"""Settings that are lists of names."""

BUCKETS = "CHRONIKER_METRICS_DURATION_BUCKETS"

OTHER_SETTINGS = (
    BUCKETS,
)  # fmt: skip
"""Settings that are read outside :mod:`chroniker.conf`."""

KNOWN_PREFIXES = ("CHRONIKER_METRICS_", "CHRONIKER_MONITORS_")
"""Whose settings other apps and floors read, and check."""

SQLITE_TIMEOUT = 10
"""Seconds below which a writer gives up while a tick finishes a hundred jobs."""


@register(Tags.compatibility)
def check_settings(**kwargs: Any) -> list[CheckMessage]:
    """Every ``CHRONIKER_*`` setting, each by itself and those that depend on one another."""
    return [message for check in _CHECKS for message in check()]


@register(Tags.compatibility)
def check_time_zones(**kwargs: Any) -> list[CheckMessage]:
    """Times are stored as UTC and computed in the zone of each job."""
    if settings.USE_TZ:
        return []
    return [
        Error(
            "Chroniker needs USE_TZ: without it, times are stored without their zone, and jobs "
            "would run at other times than their schedules say.",
            hint="Set USE_TZ = True.",
            id="chroniker.E006",
        )
    ]


@register(Tags.compatibility, deploy=True)
def check_sqlite(**kwargs: Any) -> list[CheckMessage]:
    """Whether writers on SQLite wait for one another. Looks at settings, not at the database."""
    alias = router.db_for_write(_job_model())
    config = connections.settings[alias]
    if config["ENGINE"].rpartition(".")[2] != "sqlite3" or ":memory:" in str(config["NAME"]):
        return []
    options = config.get("OPTIONS", {})
    lacking = []
    if str(options.get("transaction_mode", "")).upper() not in ("IMMEDIATE", "EXCLUSIVE"):
        lacking.append('"transaction_mode": "IMMEDIATE"')
    if options.get("timeout", 0) < SQLITE_TIMEOUT:
        lacking.append('"timeout": 20')
    if not lacking:
        return []
    return [
        Warning(
            f"Jobs, ticks and the admin write to the SQLite database {alias!r} at the same time, "
            'and as it is set up some of their writes will fail with "database is locked".',
            hint=f'Add {", ".join(lacking)} to OPTIONS of DATABASES["{alias}"].',
            id="chroniker.W002",
        )
    ]


@register(Tags.compatibility)
def check_callback(**kwargs: Any) -> list[CheckMessage]:
    """Whether the function that is called for failed runs is there before the first one fails."""
    path = conf.JOB_ERROR_CALLBACK
    if not isinstance(path, str) or not path:  # of another type: E001 says it
        return []
    try:
        reason = "" if callable(import_string(path)) else "it is nothing that can be called"
    except Exception as error:  # whatever the site's module raises
        reason = f"{type(error).__name__}: {error}"
    if not reason:
        return []
    return [
        Error(
            f"CHRONIKER_JOB_ERROR_CALLBACK is {path!r}, which cannot be used: {reason}.",
            hint='Give the dotted path of a function, such as "site.alerts.job_failed".',
            id="chroniker.E024",
        )
    ]


@register(Tags.compatibility)
def check_deadman_url(**kwargs: Any) -> list[CheckMessage]:
    """Whether the URL of the dead man's switch can be fetched at all; it is not tried."""
    url = conf.DEADMAN_URL
    if not isinstance(url, str) or not url:
        return []
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        good = good and url.isascii() and url.isprintable() and " " not in url
    except ValueError:  # a port or an address that is none
        good = False
    if good:
        return []
    # Not the value itself: who has it can keep the switch from being noticed.
    return [
        Error(
            "CHRONIKER_DEADMAN_URL is no address that can be fetched.",
            hint="Give a whole URL, https://… or http://…, without blanks.",
            id="chroniker.E025",
        )
    ]


# --- each setting ---


def _types() -> Iterator[CheckMessage]:
    for setting in all_settings():
        value = getattr(settings, setting.name, None)
        if value is not None and not _has_type(value, setting.types):
            wanted = " or ".join(dict.fromkeys(kind.__name__ for kind in setting.types))
            yield Error(
                f"{setting.name} is {value!r}, a {type(value).__name__}; it must be {wanted}.",
                hint=f"{setting.doc} Leave it out for the default.",
                id="chroniker.E001",
            )


def _minimums() -> Iterator[CheckMessage]:
    for setting in all_settings():
        value = _valid_value(setting)
        if setting.minimum is None or value is None:
            continue
        if not math.isfinite(value) or value < setting.minimum:
            yield Error(
                f"{setting.name} is {value!r}; it must be at least {setting.minimum:g}.",
                hint=f"{setting.doc} Leave it out for the default.",
                id="chroniker.E002",
            )


def _lease() -> Iterator[CheckMessage]:
    values = {setting.name: setting for setting in all_settings()}
    given = [values["CHRONIKER_LEASE_SECONDS"], values["CHRONIKER_LEASE_RENEW_SECONDS"]]
    if any(getattr(settings, s.name, None) is not None and _valid_value(s) is None for s in given):
        return  # one of them is no number, which E001 says
    lease, renew = conf.LEASE_SECONDS, conf.LEASE_RENEW_SECONDS
    if not renew < lease / 3:
        yield Error(
            f"CHRONIKER_LEASE_RENEW_SECONDS is {renew:g}, and CHRONIKER_LEASE_SECONDS {lease:g}: "
            "one or two slow renewals would end jobs that are well.",
            hint=f"Set CHRONIKER_LEASE_RENEW_SECONDS below {lease / 3:g}, or a longer lease.",
            id="chroniker.E003",
        )


def _choices() -> Iterator[CheckMessage]:
    for setting in all_settings():
        value, choices = _valid_value(setting), CHOICES.get(setting.name)
        if choices and value is not None and value not in choices:
            yield Error(
                f"{setting.name} is {value!r}, which there is not.",
                hint=f"It is one of {', '.join(map(repr, choices))}.",
                id="chroniker.E004",
            )
        if setting.name == "CHRONIKER_HOSTNAME" and value in ("", "*"):
            yield Error(
                f"CHRONIKER_HOSTNAME is {value!r}, which as the host of a job has another meaning.",
                hint="Give this machine a name of its own, or leave the setting out.",
                id="chroniker.E004",
            )


def _log_level() -> Iterator[CheckMessage]:
    level = conf.LOG_CAPTURE_LEVEL
    if isinstance(level, str) and level not in logging.getLevelNamesMapping():
        yield Error(
            f"CHRONIKER_LOG_CAPTURE_LEVEL is {level!r}, which is no level of the logging module.",
            hint='Use "DEBUG", "INFO", "WARNING", "ERROR" or "CRITICAL", in capitals, or a number.',
            id="chroniker.E005",
        )


def _log_format() -> Iterator[CheckMessage]:
    text = conf.LOG_FORMAT
    if not isinstance(text, str):
        return
    try:
        logging.Formatter(text)
    except ValueError as error:
        yield Error(
            f"CHRONIKER_LOG_FORMAT cannot be used: {error}.",
            hint="Use the %-style of logging.Formatter, such as '%(levelname)s %(message)s'.",
            id="chroniker.E007",
        )


def _buckets() -> Iterator[CheckMessage]:
    value = getattr(settings, BUCKETS, None)
    if not isinstance(value, (list, tuple)):
        return
    rising = (
        bool(value)
        and all(_has_type(bound, (int, float)) and 0 < bound < math.inf for bound in value)
        and all(low < high for low, high in pairwise(value))
    )
    if not rising:
        yield Error(
            f"{BUCKETS} is {value!r}; it must be a list of rising numbers above 0.",
            hint="Seconds, such as [1, 10, 60, 600]; everything longer is counted anyway.",
            id="chroniker.E008",
        )


def _names() -> Iterator[CheckMessage]:
    for setting in all_settings():
        value = _valid_value(setting)
        if setting.name not in NAMES or value is None:
            continue
        strange = [entry for entry in value if not isinstance(entry, str) or not entry]
        if strange:
            yield Error(
                f"{setting.name} holds {strange[0]!r}, which is no name.",
                hint=f"{setting.doc} Each entry is a string.",
                id="chroniker.E009",
            )


ADDRESSES = ("CHRONIKER_SITE_URL", "CHRONIKER_WEBHOOK_URL")
"""Settings that are addresses in the web."""

WEBHOOK = "chroniker.alerting.webhook.Webhook"


def _addresses() -> Iterator[CheckMessage]:
    for setting in all_settings():
        value = _valid_value(setting)
        if setting.name not in ADDRESSES or not value:
            continue
        try:
            parts = urlsplit(value)
            good = parts.scheme in ("http", "https") and bool(parts.hostname)
        except ValueError:
            good = False
        if not good:
            yield Error(
                f"{setting.name} is {value!r}, which is no address in the web.",
                hint="It begins with https:// or http:// and names a host.",
                id="chroniker.E020",
            )


def _notifiers() -> Iterator[CheckMessage]:
    paths: Any = getattr(settings, "CHRONIKER_NOTIFIERS", None)
    if not _has_type(paths, (list, tuple)):
        return
    for path in paths:
        if not isinstance(path, str):
            continue  # E009 says so
        try:
            problem = "" if issubclass(import_string(path), _notifier()) else "it is no Notifier"
        except (ImportError, TypeError) as error:
            problem = str(error)
        if problem:
            yield Error(
                f"CHRONIKER_NOTIFIERS names {path!r}, which cannot be used: {problem}.",
                hint="Each is the dotted path of a subclass of chroniker.alerting.notifiers.Notifier.",
                id="chroniker.E021",
            )
    if WEBHOOK in paths and not (conf.WEBHOOK_URL and conf.WEBHOOK_SECRET):
        yield Error(
            f"CHRONIKER_NOTIFIERS names {WEBHOOK!r}, but it has nowhere to post to, or nothing to "
            "sign with.",
            hint="Set CHRONIKER_WEBHOOK_URL and CHRONIKER_WEBHOOK_SECRET.",
            id="chroniker.E022",
        )


def _subject_prefix() -> Iterator[CheckMessage]:
    prefix = getattr(settings, "CHRONIKER_EMAIL_SUBJECT_PREFIX", None)
    if isinstance(prefix, str) and not prefix.isprintable():
        yield Error(
            f"CHRONIKER_EMAIL_SUBJECT_PREFIX is {prefix!r}, with which no mail can be sent.",
            hint="It is part of one line of text.",
            id="chroniker.E023",
        )


def _unknown() -> Iterator[CheckMessage]:
    known = {setting.name for setting in all_settings()} | set(OTHER_SETTINGS)
    for name in sorted(n for n in dir(settings) if n.startswith("CHRONIKER_")):
        if name in known or name.startswith(KNOWN_PREFIXES):
            continue
        near = get_close_matches(name, known, n=1, cutoff=0.75)
        yield Warning(
            f"There is no setting {name}; it has no effect.",
            hint=f"Is {near[0]} meant?" if near else "Remove it; docs/reference/settings.md lists all.",
            id="chroniker.W001",
        )


_CHECKS: tuple[Callable[[], Iterator[CheckMessage]], ...] = (
    _types, _minimums, _lease, _choices, _log_level, _log_format, _buckets, _names, _addresses,
    _notifiers, _subject_prefix, _unknown,
)  # fmt: skip


def _has_type(value: Any, types: tuple[type, ...]) -> bool:
    """True is an int to Python, and a mistake to a person."""
    return isinstance(value, types) and (not isinstance(value, bool) or bool in types)


def _valid_value(setting: Setting[Any]) -> Any:
    """The value that the site gives, where it is of the right type; otherwise None."""
    value = getattr(settings, setting.name, None)
    return value if value is not None and _has_type(value, setting.types) else None


def _notifier() -> Any:
    from .alerting.notifiers import Notifier  # only when the models are loaded

    return Notifier


def _job_model() -> Any:
    from .models import Job  # only when the models are loaded

    return Job
