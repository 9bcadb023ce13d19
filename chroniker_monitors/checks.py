"""System checks of the settings of metrics and monitors. The ids are stable."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Container, Iterator, Sequence

from django.apps import AppConfig, apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Info, Warning
from django.db import connections

from chroniker.conf import conf as chroniker_conf

from .conf import MonitorsConf, all_settings, conf
from .enums import COMMAND, MetricsDetail

MIDDLEWARE = "chroniker_monitors.middleware.MetricsMiddleware"
MIN_TOKEN_LENGTH = 16
_SECRET_SETTINGS = ("CHRONIKER_MONITORS_BROKERS",)


def check_settings(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: object
) -> list[CheckMessage]:
    """Check the values of ``CHRONIKER_METRICS_*`` and ``CHRONIKER_MONITORS_*``."""
    wrong = list(_check_types())
    return wrong or [
        *_check_detail(),
        *_check_networks(),
        *_check_buckets(),
        *_check_token(),
        *_check_monitors(),
    ]


def check_django_prometheus(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: object
) -> list[CheckMessage]:
    """Say what is not on the metrics page without django-prometheus."""
    if apps.is_installed("django_prometheus"):
        return []
    return [
        Info(
            "django_prometheus is not in INSTALLED_APPS: the metrics page has the metrics of "
            "Chroniker and of the process, but none of the site's requests and database.",
            hint='Install "chroniker[django-prometheus]" and add it to INSTALLED_APPS, or add '
            '"chroniker_monitors.I001" to SILENCED_SYSTEM_CHECKS.',
            id="chroniker_monitors.I001",
        )
    ]


def check_scrapes(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: object
) -> list[CheckMessage]:
    """Check that a scrape over HTTP is not redirected."""
    exempt = any(re.search(pattern, "metrics") for pattern in settings.SECURE_REDIRECT_EXEMPT)
    if not settings.SECURE_SSL_REDIRECT or exempt or MIDDLEWARE in settings.MIDDLEWARE:
        return []
    return [
        Warning(
            "With SECURE_SSL_REDIRECT, a scrape of /metrics and a ping over HTTP are redirected "
            "and fail.",
            hint=f"Put {MIDDLEWARE!r} first in MIDDLEWARE, or scrape and ping over HTTPS.",
            id="chroniker_monitors.W010",
        )
    ]


def _check_types() -> Iterator[CheckMessage]:
    for setting in all_settings():
        value = setting.__get__(conf, MonitorsConf)
        if value is None and setting.default is None:
            continue
        # Not isinstance(), because a bool is an int: METRICS_MAX_JOBS = True is a mistake.
        if type(value) not in setting.types:
            names = " or ".join(sorted(kind.__name__ for kind in setting.types))
            # Broker URLs contain passwords.
            shown = f"a {type(value).__name__}" if setting.name in _SECRET_SETTINGS else repr(value)
            yield Error(
                f"{setting.name} must be {names}, not {shown}.",
                hint=setting.doc,
                id="chroniker_monitors.E001",
            )
        elif isinstance(value, int | float) and value < (setting.minimum or -math.inf):
            yield Error(
                f"{setting.name} is {value!r}, but must be at least {setting.minimum:g}.",
                hint=setting.doc,
                id="chroniker_monitors.E002",
            )


def _check_detail() -> Iterator[CheckMessage]:
    if conf.METRICS_DETAIL not in MetricsDetail.values:
        yield Error(
            f"CHRONIKER_METRICS_DETAIL is {conf.METRICS_DETAIL!r}.",
            hint='Use "low", "default" or "high".',
            id="chroniker_monitors.E009",
        )


def _check_networks() -> Iterator[CheckMessage]:
    for name in ("METRICS_ALLOWED_NETWORKS", "MONITORS_ALLOWED_NETWORKS"):
        yield from _check_networks_of(name)


def _check_networks_of(name: str) -> Iterator[CheckMessage]:
    for network in getattr(conf, name):
        try:
            ipaddress.ip_network(network, strict=False)
        except ValueError as error:
            yield Error(
                f"CHRONIKER_{name}: {error}.",
                hint='Write networks as "10.1.0.0/16" or "fd00::/8". This entry is ignored.',
                id="chroniker_monitors.E003",
            )


def _check_buckets() -> Iterator[CheckMessage]:
    bounds = list(chroniker_conf.METRICS_DURATION_BUCKETS)
    numbers = all(
        isinstance(bound, int | float) and not isinstance(bound, bool) for bound in bounds
    )
    if not (
        bounds
        and numbers
        and all(0 < bound < math.inf for bound in bounds)
        and bounds == sorted(set(bounds))
    ):
        yield Error(
            f"CHRONIKER_METRICS_DURATION_BUCKETS is {bounds!r}.",
            hint="Give at least one bound in seconds, above 0, in ascending order. +Inf is added.",
            id="chroniker_monitors.E004",
        )


def _check_token() -> Iterator[CheckMessage]:
    token = conf.METRICS_TOKEN
    if token and not re.fullmatch("[!-~]+", token):
        yield Error(
            "CHRONIKER_METRICS_TOKEN has characters that are not allowed in a header.",
            hint="Use printable ASCII without spaces, for example from `openssl rand -hex 32`.",
            id="chroniker_monitors.E005",
        )
    elif 0 < len(token) < MIN_TOKEN_LENGTH:
        yield Warning(
            f"CHRONIKER_METRICS_TOKEN has fewer than {MIN_TOKEN_LENGTH} characters.",
            hint="Use a longer one, for example from `openssl rand -hex 32`.",
            id="chroniker_monitors.W001",
        )


def _check_monitors() -> Iterator[CheckMessage]:
    """Check that the commands, models, databases and brokers of monitors exist."""
    allowed = chroniker_conf.ALLOWED_COMMANDS
    if isinstance(allowed, Container) and COMMAND not in allowed:
        # Checks do not query the database, so this does not know whether there are monitors.
        yield Warning(
            f"CHRONIKER_ALLOWED_COMMANDS does not contain {COMMAND}, so monitors cannot run.",
            hint=f"Add {COMMAND!r}. Without monitors, use SILENCED_SYSTEM_CHECKS.",
            id="chroniker_monitors.W002",
        )
    for label in conf.MONITORS_MODELS or ():
        try:
            apps.get_model(label)
        except (LookupError, ValueError, AttributeError):
            yield Error(
                f"CHRONIKER_MONITORS_MODELS: there is no model {label!r}.",
                hint='Write models as "app_label.Model".',
                id="chroniker_monitors.E006",
            )
    alias = conf.MONITORS_SQL_ALIAS
    if alias and alias not in connections:
        yield Error(
            f"CHRONIKER_MONITORS_SQL_ALIAS is {alias!r}, which is not in DATABASES.",
            hint="Add a database with this alias, whose user can only read.",
            id="chroniker_monitors.E007",
        )
    for name, url in conf.MONITORS_BROKERS.items():
        if not isinstance(name, str) or not isinstance(url, str) or "://" not in url:
            yield Error(
                f"CHRONIKER_MONITORS_BROKERS: {name!r} has no URL.",  # the value may be a password
                hint='Use a value such as {"default": "redis://127.0.0.1:6379/0"}.',
                id="chroniker_monitors.E008",
            )
