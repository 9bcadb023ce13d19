"""System checks of the settings, with stable ids.

========  ===================================================================================
E001      a setting has a wrong type
E002      a number is below its minimum
E003      leases are not renewed often enough
E004      a setting has a value that does not exist
E005      the level of stored log records is not a level of the ``logging`` module
E006      ``USE_TZ`` is off
E007      the format of log records is invalid
E008      the buckets of the duration histogram are not ascending numbers
E009      a list of names contains something else
E020      a URL is invalid
E021      a notifier cannot be used
E022      the webhook has no URL, or no valid secret
E023      the prefix of email subjects is not one line of text
E024      the callback for failed runs cannot be imported or is not callable
E025      the URL of the dead man's switch is invalid
E026      Apprise has no usable URLs, or is not installed
E027      an executor cannot be used (:mod:`chroniker.executor_checks`)
E040      ``MAILERS`` has no default mailer
W001      a setting's name is unknown, probably misspelled
W002      SQLite has its default options, which cause "database is locked"
========  ===================================================================================
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from importlib.util import find_spec
from itertools import pairwise
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning
from django.db import connections, router
from django.utils.module_loading import import_string

from .conf import Setting, all_settings, conf

if TYPE_CHECKING:
    from .alerting.notifiers import Notifier
    from .models import Job

CHOICES = {
    "CHRONIKER_START_METHOD": ("fork", "spawn"),
}
"""Settings with a fixed set of values."""

NAMES = (
    "CHRONIKER_ALLOWED_COMMANDS", "CHRONIKER_ALLOWED_TASKS", "CHRONIKER_SECRET_NAMES",
    "CHRONIKER_NOTIFIERS",
)  # fmt: skip
"""Settings that are lists of names."""

BUCKETS = "CHRONIKER_METRICS_DURATION_BUCKETS"

OTHER_SETTINGS = (
    BUCKETS,
)  # fmt: skip
"""Settings that other modules than :mod:`chroniker.conf` define."""

KNOWN_PREFIXES = ("CHRONIKER_METRICS_", "CHRONIKER_MONITORS_")
"""Prefixes of settings that other apps define and check."""

REPLACED = {
    "CHRONIKER_DISABLE_RAW_COMMAND": "Remove it: raw commands are off unless "
    "CHRONIKER_ALLOW_RAW_COMMANDS is set.",
    "CHRONIKER_LOCK_TIMEOUT": "Remove it: see CHRONIKER_LEASE_SECONDS.",
    "CHRONIKER_STALE_MINUTES": "Remove it: see CHRONIKER_LEASE_SECONDS.",
    "CHRONIKER_JOB_NK": "Remove it: the name of a job is unique.",
}
"""Settings of django-chroniker that are not needed, with what replaces them."""

SQLITE_TIMEOUT = 10
"""Seconds; with less, a writer gives up while a tick stores the ends of a hundred runs."""


def check_settings(**kwargs: object) -> list[CheckMessage]:
    """Check every ``CHRONIKER_*`` setting, and those that depend on each other."""
    return [message for check in _CHECKS for message in check()]


def check_time_zones(**kwargs: object) -> list[CheckMessage]:
    """Check that times are stored with their time zone."""
    if settings.USE_TZ:
        return []
    return [
        Error(
            "Chroniker needs USE_TZ. Without it, times are stored without a time zone, and jobs "
            "start at the wrong times.",
            hint="Set USE_TZ = True.",
            id="chroniker.E006",
        )
    ]


def check_sqlite(**kwargs: object) -> list[CheckMessage]:
    """Check the SQLite options that make writers wait for each other, without a query."""
    alias = router.db_for_write(_job_model())
    config = connections.settings[alias]
    if config["ENGINE"].rpartition(".")[2] != "sqlite3" or ":memory:" in str(config["NAME"]):
        return []
    options = config.get("OPTIONS", {})
    missing = []
    if str(options.get("transaction_mode", "")).upper() not in ("IMMEDIATE", "EXCLUSIVE"):
        missing.append('"transaction_mode": "IMMEDIATE"')
    if options.get("timeout", 0) < SQLITE_TIMEOUT:
        missing.append('"timeout": 20')
    if not missing:
        return []
    return [
        Warning(
            f"Jobs, ticks and the admin write to the SQLite database {alias!r} at the same time, "
            'and with its current options some writes will fail with "database is locked".',
            hint=f'Add {", ".join(missing)} to OPTIONS of DATABASES["{alias}"].',
            id="chroniker.W002",
        )
    ]


def check_mailers(**kwargs: object) -> list[CheckMessage]:
    """Check that there is a mailer to send with (``MAILERS`` of Django 6.1)."""
    mailers = getattr(settings, "MAILERS", None)
    if mailers is None or "default" in mailers:
        return []
    return [
        Error(
            'MAILERS has no "default", so no mail about jobs can be sent.',
            hint='Add MAILERS["default"] with its BACKEND and OPTIONS.',
            id="chroniker.E040",
        )
    ]


def check_callback(**kwargs: object) -> list[CheckMessage]:
    """Check that the callback for failed runs can be called."""
    path = conf.JOB_ERROR_CALLBACK
    if not isinstance(path, str) or not path:  # of another type: E001
        return []
    try:
        reason = "" if callable(import_string(path)) else "it is not callable"
    except Exception as error:  # the site's module may raise anything
        reason = f"{type(error).__name__}: {error}"
    if not reason:
        return []
    return [
        Error(
            f"CHRONIKER_JOB_ERROR_CALLBACK is {path!r}, which cannot be used: {reason}.",
            hint='Set it to the dotted path of a function, such as "site.alerts.job_failed".',
            id="chroniker.E024",
        )
    ]


def check_deadman_url(**kwargs: object) -> list[CheckMessage]:
    """Check the form of the URL of the dead man's switch; no request is sent."""
    url = conf.DEADMAN_URL
    if not isinstance(url, str) or not url:
        return []
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        good = good and url.isascii() and url.isprintable() and " " not in url
    except ValueError:  # an invalid port or address
        good = False
    if good:
        return []
    # The value is secret: with it, anyone could hide that ticks have stopped.
    return [
        Error(
            "CHRONIKER_DEADMAN_URL is not a valid URL.",
            hint="Set it to a complete URL that begins with https:// or http://, without spaces.",
            id="chroniker.E025",
        )
    ]


def check_apprise(**kwargs: object) -> list[CheckMessage]:
    """Check that Apprise is installed if it has URLs. They contain secrets, so none is shown."""
    configured = conf.APPRISE_URLS
    if not configured or not isinstance(configured, list | tuple | Mapping):
        return []  # of another type: E001
    entries = configured.values() if isinstance(configured, Mapping) else [configured]
    urls = [url for entry in entries for url in ([entry] if isinstance(entry, str) else entry)]
    problem, hint = "", ""
    if not all(isinstance(url, str) and "://" in url for url in urls):
        problem = "contains something that is not a URL"
        hint = "Set it to a list of Apprise URLs, or to a mapping from teams to lists of them."
    elif find_spec("apprise") is None:
        problem, hint = "is set, but Apprise is not installed", "Install chroniker[apprise]."
    if not problem:
        return []
    return [Error(f"CHRONIKER_APPRISE_URLS {problem}.", hint=hint, id="chroniker.E026")]


# --- each setting ---


def _types() -> Iterator[CheckMessage]:
    for setting in all_settings():
        value = getattr(settings, setting.name, None)
        if value is not None and not _has_type(value, setting.types):
            wanted = " or ".join(dict.fromkeys(kind.__name__ for kind in setting.types))
            yield Error(
                f"{setting.name} is {value!r}, a {type(value).__name__}, but must be {wanted}.",
                hint=f"{setting.doc} Remove it to use the default.",
                id="chroniker.E001",
            )


def _minimums() -> Iterator[CheckMessage]:
    for setting in all_settings():
        value = _valid_value(setting)
        if setting.minimum is None or not isinstance(value, int | float):
            continue
        if not math.isfinite(value) or value < setting.minimum:
            yield Error(
                f"{setting.name} is {value!r}, but must be at least {setting.minimum:g}.",
                hint=f"{setting.doc} Remove it to use the default.",
                id="chroniker.E002",
            )


def _lease() -> Iterator[CheckMessage]:
    values = {setting.name: setting for setting in all_settings()}
    given = [values["CHRONIKER_LEASE_SECONDS"], values["CHRONIKER_LEASE_RENEW_SECONDS"]]
    if any(getattr(settings, s.name, None) is not None and _valid_value(s) is None for s in given):
        return  # one of them is not a number: E001
    lease, renew = conf.LEASE_SECONDS, conf.LEASE_RENEW_SECONDS
    if not renew < lease / 3:
        yield Error(
            f"CHRONIKER_LEASE_RENEW_SECONDS is {renew:g} and CHRONIKER_LEASE_SECONDS is {lease:g}: "
            "after one or two slow renewals, healthy runs would be stopped.",
            hint=f"Set CHRONIKER_LEASE_RENEW_SECONDS to less than {lease / 3:g}, or increase "
            "CHRONIKER_LEASE_SECONDS.",
            id="chroniker.E003",
        )


def _choices() -> Iterator[CheckMessage]:
    for setting in all_settings():
        value, choices = _valid_value(setting), CHOICES.get(setting.name)
        if choices and value is not None and value not in choices:
            yield Error(
                f"{setting.name} is {value!r}, which does not exist.",
                hint=f"Set it to one of {', '.join(map(repr, choices))}.",
                id="chroniker.E004",
            )
        if setting.name == "CHRONIKER_HOSTNAME" and value in ("", "*"):
            yield Error(
                f"CHRONIKER_HOSTNAME is {value!r}, which has another meaning for jobs.",
                hint="Set a unique name for this host, or remove the setting.",
                id="chroniker.E004",
            )


def _log_level() -> Iterator[CheckMessage]:
    level = conf.LOG_CAPTURE_LEVEL
    if isinstance(level, str) and level not in logging.getLevelNamesMapping():
        yield Error(
            f"CHRONIKER_LOG_CAPTURE_LEVEL is {level!r}, which is not a level of logging.",
            hint='Set it to "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL" or a number.',
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
            f"CHRONIKER_LOG_FORMAT is invalid: {error}.",
            hint="Set it to a %-style format of logging.Formatter, such as "
            "'%(levelname)s %(message)s'.",
            id="chroniker.E007",
        )


def _buckets() -> Iterator[CheckMessage]:
    value = getattr(settings, BUCKETS, None)
    if not isinstance(value, (list, tuple)):
        return
    ascending = (
        bool(value)
        and all(_has_type(bound, (int, float)) and 0 < bound < math.inf for bound in value)
        and all(low < high for low, high in pairwise(value))
    )
    if not ascending:
        yield Error(
            f"{BUCKETS} is {value!r}, but must be a list of ascending numbers above 0.",
            hint="Set it to seconds, such as [1, 10, 60, 600]. Longer runs are counted too.",
            id="chroniker.E008",
        )


def _names() -> Iterator[CheckMessage]:
    for setting in all_settings():
        value = _valid_value(setting)
        if setting.name not in NAMES or not isinstance(value, Iterable):
            continue
        wrong = [entry for entry in value if not isinstance(entry, str) or not entry]
        if wrong:
            yield Error(
                f"{setting.name} contains {wrong[0]!r}, which is not a name.",
                hint=f"{setting.doc} Each entry must be a string that is not empty.",
                id="chroniker.E009",
            )


ADDRESSES = ("CHRONIKER_SITE_URL", "CHRONIKER_WEBHOOK_URL")
"""Settings that are URLs."""

WEBHOOK = "chroniker.alerting.webhook.Webhook"


def _addresses() -> Iterator[CheckMessage]:
    for setting in all_settings():
        value = _valid_value(setting)
        if setting.name not in ADDRESSES or not isinstance(value, str) or not value:
            continue
        try:
            parts = urlsplit(value)
            good = parts.scheme in ("http", "https") and bool(parts.hostname)
        except ValueError:
            good = False
        if not good:
            yield Error(
                f"{setting.name} is {value!r}, which is not a valid URL.",
                hint="Set it to a URL with a host that begins with https:// or http://.",
                id="chroniker.E020",
            )


def _notifiers() -> Iterator[CheckMessage]:
    paths = getattr(settings, "CHRONIKER_NOTIFIERS", None)
    if not isinstance(paths, list | tuple):
        return
    for path in paths:
        if not isinstance(path, str):
            continue  # E009
        try:
            problem = (
                ""
                if issubclass(import_string(path), _notifier())
                else "it is not a subclass of Notifier"
            )
        except (ImportError, TypeError) as error:
            problem = str(error)
        if problem:
            yield Error(
                f"CHRONIKER_NOTIFIERS lists {path!r}, which cannot be used: {problem}.",
                hint="Each must be a subclass of chroniker.alerting.notifiers.Notifier.",
                id="chroniker.E021",
            )
    if WEBHOOK in paths and not conf.WEBHOOK_URL:
        yield Error(
            f"CHRONIKER_NOTIFIERS lists {WEBHOOK!r}, but CHRONIKER_WEBHOOK_URL is not set.",
            hint="Set CHRONIKER_WEBHOOK_URL and CHRONIKER_WEBHOOK_SECRET.",
            id="chroniker.E022",
        )
    elif WEBHOOK in paths and isinstance(conf.WEBHOOK_SECRET, str):
        from .alerting.signatures import InvalidSecret, check_secret  # only where it is used

        try:
            check_secret(conf.WEBHOOK_SECRET)
        except InvalidSecret as error:
            yield Error(
                f"CHRONIKER_WEBHOOK_SECRET cannot be used: {error}",
                hint="Set it to whsec_ followed by the Base64 of 24 to 64 random bytes.",
                id="chroniker.E022",
            )


def _subject_prefix() -> Iterator[CheckMessage]:
    prefix = getattr(settings, "CHRONIKER_EMAIL_SUBJECT_PREFIX", None)
    if isinstance(prefix, str) and not prefix.isprintable():
        yield Error(
            f"CHRONIKER_EMAIL_SUBJECT_PREFIX is {prefix!r}, which cannot be in an email subject.",
            hint="Set it to one line of printable text.",
            id="chroniker.E023",
        )


def _unknown() -> Iterator[CheckMessage]:
    known = {setting.name for setting in all_settings()} | set(OTHER_SETTINGS)
    for name in sorted(n for n in dir(settings) if n.startswith("CHRONIKER_")):
        if name in known or name.startswith(KNOWN_PREFIXES):
            continue
        near = get_close_matches(name, known, n=1, cutoff=0.75)
        yield Warning(
            f"There is no setting {name}. It has no effect.",
            hint=REPLACED.get(name)
            or (
                f"Did you mean {near[0]}?"
                if near
                else "Remove it. docs/reference/settings.md lists all settings."
            ),
            id="chroniker.W001",
        )


_CHECKS: tuple[Callable[[], Iterator[CheckMessage]], ...] = (
    _types, _minimums, _lease, _choices, _log_level, _log_format, _buckets, _names, _addresses,
    _notifiers, _subject_prefix, _unknown,
)  # fmt: skip


def _has_type(value: object, types: tuple[type, ...]) -> bool:
    """Like isinstance(), but True and False are not numbers."""
    return isinstance(value, types) and (not isinstance(value, bool) or bool in types)


def _valid_value(setting: Setting[object]) -> object:
    """Return the value that the site sets if it has the right type; otherwise None."""
    value = getattr(settings, setting.name, None)
    return value if value is not None and _has_type(value, setting.types) else None


def _notifier() -> type[Notifier]:
    from .alerting.notifiers import Notifier  # not before the models are loaded

    return Notifier


def _job_model() -> type[Job]:
    from .models import Job  # not before the models are loaded

    return Job


SITE_CHECKS = (
    check_settings,
    check_time_zones,
    check_sqlite,
    check_mailers,
    check_callback,
    check_deadman_url,
    check_apprise,
)
"""What the app registers."""
