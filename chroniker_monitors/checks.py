"""What ``manage.py check`` says about the settings of metrics and monitors; the ids are stable."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Container, Iterator, Sequence
from typing import Any

from django.apps import AppConfig, apps
from django.core.checks import CheckMessage, Error, Warning, register
from django.db import connections

from chroniker.conf import conf as chroniker_conf

from .conf import MonitorsConf, all_settings, conf
from .enums import COMMAND

SHORT_TOKEN = 16
_SECRET_SETTINGS = ("CHRONIKER_MONITORS_BROKERS",)


@register("chroniker")
def check_settings(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Wrong values of ``CHRONIKER_METRICS_*`` and ``CHRONIKER_MONITORS_*``."""
    wrong = list(_check_types())
    return wrong or [*_check_networks(), *_check_buckets(), *_check_token(), *_check_monitors()]


def _check_types() -> Iterator[CheckMessage]:
    for setting in all_settings():
        value: Any = setting.__get__(conf, MonitorsConf)
        if value is None and setting.default is None:
            continue
        # Not isinstance: bool is an int, but nobody means True jobs.
        if type(value) not in setting.types:
            names = " or ".join(sorted(kind.__name__ for kind in setting.types))
            # The URLs of brokers have passwords.
            shown = f"a {type(value).__name__}" if setting.name in _SECRET_SETTINGS else repr(value)
            yield Error(
                f"{setting.name} is {shown}, which is no {names}.",
                hint=setting.doc,
                id="chroniker_monitors.E001",
            )
        elif setting.minimum is not None and value < setting.minimum:
            yield Error(
                f"{setting.name} is {value!r}, which is less than {setting.minimum:g}.",
                hint=setting.doc,
                id="chroniker_monitors.E002",
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
                hint='Networks are written as "10.1.0.0/16" or "fd00::/8". It allows nothing.',
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
            hint="Give at least one bound in seconds, above 0, ascending; +Inf is always there.",
            id="chroniker_monitors.E004",
        )


def _check_token() -> Iterator[CheckMessage]:
    token = conf.METRICS_TOKEN
    if token and not re.fullmatch("[!-~]+", token):
        yield Error(
            "CHRONIKER_METRICS_TOKEN has characters that a header cannot carry.",
            hint="Use printable ASCII without blanks; `openssl rand -hex 32` makes a good one.",
            id="chroniker_monitors.E005",
        )
    elif 0 < len(token) < SHORT_TOKEN:
        yield Warning(
            f"CHRONIKER_METRICS_TOKEN has less than {SHORT_TOKEN} characters.",
            hint="`openssl rand -hex 32` makes a good one.",
            id="chroniker_monitors.W001",
        )


def _check_monitors() -> Iterator[CheckMessage]:
    """What monitors would stumble over: models, databases and brokers that are not there."""
    allowed = chroniker_conf.ALLOWED_COMMANDS
    if isinstance(allowed, Container) and COMMAND not in allowed:
        # Whether there are monitors only the database knows, which checks do not ask.
        yield Warning(
            f"CHRONIKER_ALLOWED_COMMANDS lacks {COMMAND}, so that no monitor can run.",
            hint=f"Add {COMMAND!r}; SILENCED_SYSTEM_CHECKS where there are to be no monitors.",
            id="chroniker_monitors.W002",
        )
    for label in conf.MONITORS_MODELS or ():
        try:
            apps.get_model(label)
        except (LookupError, ValueError, AttributeError):
            yield Error(
                f"CHRONIKER_MONITORS_MODELS: {label!r} is no model.",
                hint='Models are written as "app_label.Model".',
                id="chroniker_monitors.E006",
            )
    alias = conf.MONITORS_SQL_ALIAS
    if alias and alias not in connections:
        yield Error(
            f"CHRONIKER_MONITORS_SQL_ALIAS is {alias!r}, which is none of DATABASES.",
            hint="Add a database of that name, with a user who can only read.",
            id="chroniker_monitors.E007",
        )
    for name, url in conf.MONITORS_BROKERS.items():
        if not isinstance(name, str) or not isinstance(url, str) or "://" not in url:
            yield Error(
                f"CHRONIKER_MONITORS_BROKERS: {name!r} has no URL.",  # nor does it say what it has
                hint='Such as {"default": "redis://127.0.0.1:6379/0"}.',
                id="chroniker_monitors.E008",
            )
