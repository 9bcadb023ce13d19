"""Settings, read when they are used, so that ``override_settings`` and late configuration work.

``conf.LEASE_SECONDS`` is the site's ``CHRONIKER_LEASE_SECONDS`` or the default given here.
Wrong values are found by ``manage.py check`` (see :mod:`chroniker.checks`).
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from django.conf import settings

T = TypeVar("T")


@dataclass(slots=True)
class Setting(Generic[T]):
    """One setting: its default (or what computes it), the types it takes, and what it means."""

    default: T | Callable[[], T]
    types: tuple[type, ...]
    doc: str
    name: str = ""
    minimum: float | None = None
    shown: str = ""
    """The default in words, where it is computed."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = f"CHRONIKER_{name}"

    def __get__(self, instance: object, owner: type | None = None) -> T:
        value = getattr(settings, self.name, None)
        if value is not None:
            return value  # type: ignore[no-any-return]
        return self.default() if callable(self.default) else self.default


def setting(default: T, *types: type, doc: str, minimum: float | None = None) -> T:
    """A descriptor typed as the value it gives."""
    descriptor: Any = Setting(default, types, doc, minimum=minimum)
    return descriptor  # type: ignore[no-any-return]


def computed(
    default: Callable[[], T], *types: type, doc: str, shown: str, minimum: float | None = None
) -> T:
    """The same with a default that is computed each time it is asked for, ``shown`` in words."""
    descriptor: Any = Setting(default, types, doc, minimum=minimum, shown=shown)
    return descriptor  # type: ignore[no-any-return]


REFUSED_COMMANDS = frozenset(
    {
        "shell", "dbshell", "runserver", "testserver", "flush", "sqlflush", "reset_db",
        "drop_test_database", "shell_plus", "runserver_plus", "runscript", "cron", "cronserver",
        "run_job", "startapp", "startproject", "createsuperuser", "changepassword", "test",
        "migrate", "loaddata", "reset_schema", "runprofileserver", "mail_debug",
        "sqlmigrate", "makemigrations", "squashmigrations", "optimizemigration", "serve_metrics",
    }
)  # fmt: skip
"""Commands that no job may name unless the site lists them: they hand out a shell, serve, wait
for somebody at a terminal, write source code, destroy data, or are the scheduler itself."""


class Conf:
    """The settings of Chroniker with their defaults."""

    HOSTNAME = computed(
        socket.gethostname,
        str,
        doc="The name this machine ticks under; unique among the hosts.",
        shown="the machine's",
    )
    USE_PID = setting(False, bool, doc="A tick waits for the one before it on this host.")
    PID_FILE = computed(
        lambda: os.path.join(runtime_dir(), "cron.pid"),
        str,
        doc="The file that USE_PID locks. A kernel lock: it cannot be left behind.",
        shown="`cron.pid` in `CHRONIKER_RUNTIME_DIR`",
    )
    RUNTIME_DIR = computed(
        lambda: default_runtime_dir(),
        str,
        doc="Where lock files are kept; made when missing, and only its owner's to enter.",
        shown="`chroniker-UID` in `/tmp`, for root in `/run`",
    )
    SELECT_FOR_UPDATE: bool | None = setting(
        None,
        bool,
        doc="Lock the rows of a claim (SKIP LOCKED). None: where the database supports it.",
    )
    CHECK_LOCK_FILE = setting(
        False,
        bool,
        doc="One server only: each run holds a kernel lock, whose release says at once that the "
        "run is dead.",
    )
    LEASE_SECONDS = setting(
        60, int, float, doc="How long a host owns a run without renewing, seconds.", minimum=1
    )
    LEASE_RENEW_SECONDS = setting(
        10, int, float, doc="How often leases are renewed, seconds; under a third of the lease.",
        minimum=0.1,
    )  # fmt: skip
    MAX_PARALLEL = computed(
        lambda: 4 * (os.cpu_count() or 1),
        int,
        doc="Runs at one time on this host.",
        shown="4 times the cores",
        minimum=1,
    )
    START_METHOD = setting("fork", str, doc='"fork" (milliseconds) or "spawn" (a fresh Python).')
    EXECUTOR = setting("local", str, doc='Where runs are started; only "local" is there yet.')
    ALLOW_RAW_COMMANDS = setting(
        False, bool, doc="Whether jobs may name programs instead of management commands."
    )
    ALLOWED_COMMANDS: list[str] | None = setting(
        None,
        list,
        tuple,
        set,
        frozenset,
        doc="The management commands that jobs may name. None: every one but those that hand out "
        "a shell, serve, or destroy data.",
    )
    MAX_OUTPUT_BYTES = setting(
        1024 * 1024,
        int,
        doc="How much of each output stream of a run is kept, bytes: half from its head, half "
        "from its tail.",
        minimum=1024,
    )
    LOG_CAPTURE_LEVEL: str | int = setting(
        "INFO", str, int, doc="Log records from this level up are kept with the run's output."
    )
    LOG_FORMAT = setting("%(levelname)s %(name)s %(message)s", str, doc="Their format.")
    KILL_GRACE_SECONDS = setting(
        30, int, float, doc="Between SIGTERM and SIGKILL, seconds; a job may override it.",
        minimum=0,
    )  # fmt: skip
    SECRET_NAMES: list[str] = computed(
        list,
        list,
        tuple,
        set,
        frozenset,
        doc="Names of settings and environment variables whose values are masked in output, "
        "beside those that look secret.",
        shown="`[]`",
    )
    JOB_ERROR_CALLBACK = setting(
        "",
        str,
        doc="Dotted path of a function that is called for each run that failed, timed out or was "
        "lost: `callback(job, stdout=…, stderr=…, run=…)`.",
    )
    DEADMAN_URL = setting(
        "",
        str,
        doc="Fetched once a tick (GET), so that a service elsewhere notices when ticks stay away: "
        "a dead man's switch.",
    )
    DEADMAN_TIMEOUT_SECONDS = setting(
        5, int, float, doc="How long that may take, seconds; no run waits for it.", minimum=0.1
    )
    OVERDUE_SECONDS = setting(
        300, int, float,
        doc="How long a job may be due before an incident says that nobody starts it, seconds.",
        minimum=1,
    )  # fmt: skip
    FLAPPING_FLIPS = setting(
        4, int,
        doc="How often within a day an incident may open and close before it counts as flapping.",
        minimum=2,
    )  # fmt: skip
    FLAPPING_QUIET_SECONDS = setting(
        3600, int, float, doc="After how long without a flip flapping is over, seconds.", minimum=1
    )
    EMAIL_SENDER = setting("", str, doc="The name that mails come from.")
    EMAIL_HOST_USER = setting(
        "", str,
        doc="The address that mails come from and, where the site logs in to its mail server as "
        "somebody else, the user to log in as. Empty: `DEFAULT_FROM_EMAIL`.",
    )  # fmt: skip
    EMAIL_SUBJECT_PREFIX = setting("[Chroniker] ", str, doc="What subjects begin with.")
    EMAIL_TIMEOUT = computed(
        lambda: settings.EMAIL_TIMEOUT or 10,
        int,
        float,
        doc="How long the mail server may take for one answer, seconds.",
        shown="`EMAIL_TIMEOUT`, or 10",
        minimum=0.1,
    )
    EMAIL_TO_ADMINS = setting(
        False, bool, doc="Whether `ADMINS` get the mails of a job to which nobody is subscribed."
    )
    SITE_URL = setting(
        "", str,
        doc="Where the site is, for links in mails: `https://www.example.com`. Empty: the current "
        "site of `django.contrib.sites` where it is installed, otherwise there are no links.",
    )  # fmt: skip
    NOTIFIERS: list[str] = computed(
        list,
        list,
        tuple,
        doc="Dotted paths of channels besides mail, such as `chroniker.alerting.webhook.Webhook`.",
        shown="`[]`",
    )
    WEBHOOK_URL = setting("", str, doc="Where `chroniker.alerting.webhook.Webhook` posts to.")
    WEBHOOK_SECRET = setting("", str, doc="What it signs with; the receiver has the same.")
    WEBHOOK_TIMEOUT = setting(
        10, int, float, doc="How long the receiver may take for one answer, seconds.", minimum=0.1
    )
    DELIVERY_TIMEOUT_SECONDS = setting(
        20, int, float,
        doc="How long a tick sends what is in the outbox, seconds; the next one goes on.",
        minimum=1,
    )  # fmt: skip
    DELIVERY_MAX_AGE_DAYS = setting(
        7, int, float, doc="After how long a notification that cannot be sent is given up, days.",
        minimum=0.01,
    )  # fmt: skip
    METRICS_DURATION_BUCKETS: tuple[float, ...] = setting(
        (0.1, 0.5, 1, 5, 15, 30, 60, 300, 900, 1800, 3600, 14400),
        list,
        tuple,
        doc="Upper bounds of the histograms of duration and start lag, seconds, rising.",
    )


conf = Conf()


def all_settings() -> list[Setting[Any]]:
    """Every setting, for system checks and documentation."""
    return [value for value in vars(Conf).values() if isinstance(value, Setting)]


def default_runtime_dir() -> str:
    """A directory for lock files that this user owns and that a reboot empties."""
    # Not XDG_RUNTIME_DIR: cron's ticks and those from a login shell have to meet.
    base = "/run" if os.geteuid() == 0 and os.access("/run", os.W_OK) else "/tmp"  # noqa: S108
    return os.path.join(base, f"chroniker-{os.geteuid()}")


def runtime_dir() -> str:
    """:attr:`Conf.RUNTIME_DIR`, made when missing, only its owner's to enter."""
    path: str = conf.RUNTIME_DIR
    os.makedirs(path, mode=0o700, exist_ok=True)
    facts = os.lstat(path)  # not what a link that somebody laid points to
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid() or facts.st_mode & 0o022:
        raise PermissionError(
            f"{path} is not a directory that only its owner, who runs the jobs, can write to. Set "
            "CHRONIKER_RUNTIME_DIR to one, or mend it: its lock files tell who is alive."
        )
    return path


def settings_table(entries: list[Setting[Any]]) -> str:
    """Settings as a table in Markdown; ``docs/reference/settings.md`` holds it."""
    lines = ["| setting | default | meaning |", "|---|---|---|"]
    for entry in entries:
        default = entry.shown or f"`{entry.default!r}`"
        lines.append(f"| `{entry.name}` | {default} | {entry.doc} |")
    return "\n".join(lines) + "\n"
