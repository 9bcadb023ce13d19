"""Settings of the metrics and monitors; read when they are used, as in :mod:`chroniker.conf`.

The bounds of the histograms, ``CHRONIKER_METRICS_DURATION_BUCKETS``, are the scheduler's: it
counts by them.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings

from chroniker.conf import Setting, computed, setting


def default_brokers() -> dict[str, str]:
    """Celery's broker, where the site names one."""
    url = getattr(settings, "CELERY_BROKER_URL", None) or getattr(settings, "BROKER_URL", None)
    return {"default": url} if isinstance(url, str) else {}


class MonitorsConf:
    """The settings of the metrics and monitors with their defaults."""

    METRICS_TOKEN = setting(
        "",
        str,
        doc="What a scraper must send as `Authorization: Bearer …`. Empty: none is asked for, and "
        "the address decides.",
    )
    METRICS_ALLOWED_NETWORKS: tuple[str, ...] = setting(
        (),
        list,
        tuple,
        set,
        frozenset,
        doc="Without a token: networks (CIDR) that may scrape, beside loopback.",
    )
    METRICS_MAX_JOBS = setting(
        10_000,
        int,
        doc="Jobs on the page, the oldest first. chroniker_collector_dropped_jobs counts the "
        "others.",
        minimum=1,
    )
    METRICS_HISTOGRAMS = setting(True, bool, doc="Whether the histograms are on the page.")
    METRICS_TIMEOUT_SECONDS = setting(
        2,
        int,
        float,
        doc="How long the database may take; after that the page says chroniker_collector_up 0.",
        minimum=0.1,
    )
    MONITORS_ALLOWED_NETWORKS: tuple[str, ...] = setting(
        (),
        list,
        tuple,
        set,
        frozenset,
        doc="Networks (CIDR), beside public addresses, that monitors of the kinds http, tls and "
        "tcp may reach.",
    )
    MONITORS_CA_FILE = setting(
        "",
        str,
        doc="A file of certificate authorities (PEM) that monitors trust beside the system's.",
    )
    MONITORS_MODELS: tuple[str, ...] | None = setting(
        None,
        list,
        tuple,
        set,
        frozenset,
        doc='The models that monitors of the kind records may count, as "app.Model". None: all '
        "but users, groups, sessions and those with a field whose name tells of a secret.",
    )
    MONITORS_SQL_ALIAS = setting(
        "",
        str,
        doc="The database (an alias of DATABASES) that monitors of the kind sql may read; its user "
        "should be able to read only what anybody who defines monitors may see. Empty: there are "
        "no such monitors.",
    )
    MONITORS_BROKERS: dict[str, str] = computed(
        default_brokers,
        dict,
        doc="The message brokers whose queues monitors may measure: names and URLs.",
        shown="`CELERY_BROKER_URL` as `default`",
    )
    MONITORS_HEALTH_CHECKS: tuple[str, ...] = setting(
        (),
        list,
        tuple,
        set,
        frozenset,
        doc="Modules whose health checks monitors may run, beside django-health-check's own and "
        "those of the installed apps.",
    )


conf = MonitorsConf()


def all_settings() -> list[Setting[Any]]:
    """Every setting, for system checks and documentation."""
    return [value for value in vars(MonitorsConf).values() if isinstance(value, Setting)]
