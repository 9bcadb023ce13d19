"""The settings of metrics and monitors, read when they are used, as in :mod:`chroniker.conf`.

``CHRONIKER_METRICS_DURATION_BUCKETS`` is a setting of the scheduler, which counts by the buckets.
"""

from __future__ import annotations

from django.conf import settings

from chroniker.conf import Setting, computed, setting


def default_brokers() -> dict[str, str]:
    """Return the broker of Celery, if the site has one."""
    url = getattr(settings, "CELERY_BROKER_URL", None) or getattr(settings, "BROKER_URL", None)
    return {"default": url} if isinstance(url, str) else {}


class MonitorsConf:
    """The settings of metrics and monitors, with their defaults."""

    METRICS_TOKEN = setting(
        "",
        str,
        doc="The token that a scraper must send as `Authorization: Bearer …`. Empty: the client's "
        "address decides.",
    )
    METRICS_ALLOWED_NETWORKS: tuple[str, ...] = setting(
        (),
        list,
        tuple,
        set,
        frozenset,
        doc="Networks (CIDR) that may scrape without a token, in addition to loopback.",
    )
    METRICS_MAX_JOBS = setting(
        10_000,
        int,
        doc="Maximum number of jobs on the page, oldest first. "
        "chroniker_collector_dropped_jobs counts the others.",
        minimum=1,
    )
    METRICS_DETAIL = setting(
        "default",
        str,
        doc='How many series a job has: "low" (10, what the alert rules need), "default" (39) or '
        '"high" (73, all at 0 from the start), each with a few more for the options that it uses.',
    )
    METRICS_HISTOGRAMS = setting(
        True, bool, doc="Whether to export histograms. Otherwise only their sums and counts."
    )
    METRICS_TIMEOUT_SECONDS = setting(
        2,
        int,
        float,
        doc="Time limit for the database queries of a scrape, seconds; after that the page says "
        "chroniker_collector_up 0.",
        minimum=0.1,
    )
    MONITORS_ALLOWED_NETWORKS: tuple[str, ...] = setting(
        (),
        list,
        tuple,
        set,
        frozenset,
        doc="Networks (CIDR), in addition to public addresses, that monitors of the kinds http, "
        "tls and tcp may connect to.",
    )
    MONITORS_CA_FILE = setting(
        "",
        str,
        doc="A file of certificate authorities (PEM) that monitors trust in addition to those of "
        "the system.",
    )
    MONITORS_MODELS: tuple[str, ...] | None = setting(
        None,
        list,
        tuple,
        set,
        frozenset,
        doc='The models that monitors of the kind records may count, as "app.Model". None: all '
        "except users, groups, sessions, and models with a field that is named like a secret.",
    )
    MONITORS_SQL_ALIAS = setting(
        "",
        str,
        doc="The database (an alias of DATABASES) that monitors of the kind sql query. Its user "
        "should only be able to read what everybody who defines monitors may see. Empty: no such "
        "monitors.",
    )
    MONITORS_MAX_SERIES = setting(
        50,
        int,
        doc="Maximum number of groups of a monitor that are recorded, bad ones first. "
        "chroniker_monitor_dropped_series counts the others.",
        minimum=1,
    )
    MONITORS_BROKERS: dict[str, str] = computed(
        default_brokers,
        dict,
        doc="Message brokers whose queues monitors may measure: a dict of names and URLs.",
        shown="`CELERY_BROKER_URL` as `default`",
    )
    MONITORS_HEALTH_CHECKS: tuple[str, ...] = setting(
        (),
        list,
        tuple,
        set,
        frozenset,
        doc="Modules whose health checks monitors may run, in addition to those of "
        "django-health-check and of the installed apps.",
    )


conf = MonitorsConf()


def all_settings() -> list[Setting[object]]:
    """Return every setting, for system checks and documentation."""
    return [value for value in vars(MonitorsConf).values() if isinstance(value, Setting)]
