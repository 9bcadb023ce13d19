"""What ``manage.py check`` says about the settings of the metrics; the ids are stable."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Error, Warning, register

from chroniker.conf import conf as chroniker_conf

from .conf import Conf, all_settings, conf

SHORT_TOKEN = 16


@register("chroniker")
def check_settings(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Wrong values of ``CHRONIKER_METRICS_*``."""
    wrong = list(_wrong_types())
    return wrong or [*_wrong_networks(), *_wrong_buckets(), *_token()]


def _wrong_types() -> Iterator[CheckMessage]:
    for setting in all_settings():
        value: Any = setting.__get__(conf, Conf)
        # Not isinstance: bool is an int, but nobody means True jobs.
        if type(value) not in setting.types:
            names = " or ".join(sorted(kind.__name__ for kind in setting.types))
            yield Error(
                f"{setting.name} is {value!r}, which is no {names}.",
                hint=setting.doc,
                id="chroniker_monitors.E001",
            )
        elif setting.minimum is not None and value < setting.minimum:
            yield Error(
                f"{setting.name} is {value!r}, which is less than {setting.minimum:g}.",
                hint=setting.doc,
                id="chroniker_monitors.E002",
            )


def _wrong_networks() -> Iterator[CheckMessage]:
    for network in conf.METRICS_ALLOWED_NETWORKS:
        try:
            ipaddress.ip_network(network, strict=False)
        except ValueError as error:
            yield Error(
                f"CHRONIKER_METRICS_ALLOWED_NETWORKS: {error}.",
                hint='Networks are written as "10.1.0.0/16" or "fd00::/8". This one allows nobody.',
                id="chroniker_monitors.E003",
            )


def _wrong_buckets() -> Iterator[CheckMessage]:
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


def _token() -> Iterator[CheckMessage]:
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
