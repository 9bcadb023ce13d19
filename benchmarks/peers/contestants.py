"""The schedulers that are compared, each as its own documentation starts it."""

from __future__ import annotations

from dataclasses import dataclass

from .servers import Servers

PSYCOPG = "psycopg[binary]"


@dataclass(frozen=True, slots=True)
class Peer:
    """A scheduler."""

    name: str
    """As in the tables."""
    package: str
    """The distribution whose version is named."""
    environment: str
    requirements: tuple[str, ...]
    control: str
    """The module of ``site/control`` that defines its jobs."""
    daemons: tuple[tuple[str, ...], ...] = ()
    """The processes that run all the time: arguments of its Python."""
    tick: tuple[str, ...] = ()
    """Or the process that cron starts each minute."""
    apps: str = ""
    page: bool = True
    scrape: bool = False
    needs_newest_python: bool = False
    most_jobs: int = 1000
    """How many due jobs are tried: one that starts them all at once could take all memory."""

    def environ(self, servers: Servers) -> dict[str, str]:
        """Return the variables that its processes need."""
        return servers.environ | {
            "PEERS_APPS": self.apps,
            "PEERS_DB": f"peers_{self.control}",
            "DJANGO_SETTINGS_MODULE": "settings",
            "OBAN_DSN": servers.dsn(f"peers_{self.control}"),
        }


CHRONIKER = (".[postgres]",)
OURS = "chroniker chroniker_monitors"

PEERS = (
    Peer("Chroniker, cron line", "chroniker", "chroniker", CHRONIKER, "chroniker",
         tick=("-m", "chroniker.cli", "-p", "."), apps=OURS, scrape=True),
    Peer("Chroniker, cronserver", "chroniker", "chroniker", CHRONIKER, "chroniker",
         daemons=(("manage.py", "cronserver", "1"),), apps=OURS, page=False),
    Peer("django-chroniker", "django-chroniker", "original",
         ("django==5.2.*", "django-chroniker", PSYCOPG), "original",
         tick=("manage.py", "cron"), apps="django.contrib.sites chroniker", most_jobs=100),
    Peer("django-celery-beat", "django-celery-beat", "beat",
         ("django==5.2.*", "django-celery-beat", "celery[redis]", PSYCOPG), "beat",
         daemons=(
             ("-m", "celery", "-A", "tasks", "beat", "-l", "WARNING", "--pidfile=", "--scheduler",
              "django_celery_beat.schedulers:DatabaseScheduler"),
             ("-m", "celery", "-A", "tasks", "worker", "-l", "WARNING"),
         ), apps="django_celery_beat"),
    Peer("django-q2", "django-q2", "q2", ("django==5.2.*", "django-q2", PSYCOPG), "q2",
         daemons=(("manage.py", "qcluster"),), apps="django_q"),
    Peer("APScheduler", "apscheduler", "apscheduler", ("apscheduler<4", "sqlalchemy", PSYCOPG),
         "apscheduler", daemons=(("run_apscheduler.py",),), page=False),
    Peer("Oban", "oban", "oban", ("oban", PSYCOPG), "oban",
         daemons=(("-m", "oban", "start", "--queues", "default:10", "--log-level", "WARNING",
                   "--cron-modules", "oban_worker"),), page=False, needs_newest_python=True),
)  # fmt: skip
