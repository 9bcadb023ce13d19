"""Settings. They are read on each use, so that ``override_settings`` and late configuration work.

``conf.LEASE_SECONDS`` is the site's ``CHRONIKER_LEASE_SECONDS``, or the default given here.
``manage.py check`` reports wrong values (see :mod:`chroniker.checks`).
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Generic, TypeVar, cast

from django.conf import settings

from .identity import site_identity

T = TypeVar("T")


@dataclass(slots=True)
class Setting(Generic[T]):
    """One setting: its default (or a function that computes it), its types and its meaning."""

    default: T | Callable[[], T]
    types: tuple[type, ...]
    doc: str
    name: str = ""
    minimum: float | None = None
    shown: str = ""
    """The default in words, if it is computed."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = f"CHRONIKER_{name}"

    def __get__(self, instance: object, owner: type | None = None) -> T:
        value = getattr(settings, self.name, None)
        if value is not None:
            return value  # type: ignore[no-any-return]
        return self.default() if callable(self.default) else self.default


def setting(default: T, *types: type, doc: str, minimum: float | None = None) -> T:
    """Return a descriptor, typed as the value of the setting."""
    return cast("T", Setting(default, types, doc, minimum=minimum))


def computed(
    default: Callable[[], T], *types: type, doc: str, shown: str, minimum: float | None = None
) -> T:
    """Return a descriptor whose default is computed on each use, and described by ``shown``."""
    return cast("T", Setting(default, types, doc, minimum=minimum, shown=shown))


@cache
def _cores() -> int:
    """The number of cores; each look is a system call, and a scheduler asks at each pass."""
    return os.cpu_count() or 1


REFUSED_COMMANDS = frozenset(
    {
        "shell", "dbshell", "runserver", "testserver", "flush", "sqlflush", "reset_db",
        "drop_test_database", "shell_plus", "runserver_plus", "runscript", "cron", "cronserver",
        "run_job", "startapp", "startproject", "createsuperuser", "changepassword", "test",
        "migrate", "loaddata", "reset_schema", "runprofileserver", "mail_debug",
        "sqlmigrate", "makemigrations", "squashmigrations", "optimizemigration", "serve_metrics",
    }
)  # fmt: skip
"""Commands that jobs may not run unless the site lists them: they open a shell, run a server, wait
for input, write source code, destroy data, or are the scheduler itself."""


class Conf:
    """The settings of Chroniker with their defaults."""

    HOSTNAME = computed(
        socket.gethostname,
        str,
        doc="The name of this host; unique among all hosts.",
        shown="the name of the machine",
    )
    USE_PID = setting(False, bool, doc="Whether a tick waits for the previous tick on this host.")
    PID_FILE = computed(
        lambda: os.path.join(runtime_dir(), f"cron-{site_identity()}.pid"),
        str,
        doc="The file that `CHRONIKER_USE_PID` locks. The kernel releases the lock, so it is never "
        "stale.",
        shown="`cron-SITE.pid` in `CHRONIKER_RUNTIME_DIR`; SITE stands for the site's database",
    )
    RUNTIME_DIR = computed(
        lambda: default_runtime_dir(),
        str,
        doc="The directory for lock files. It is created if missing, with access for its owner "
        "only.",
        shown="`chroniker-UID` in `/tmp`, for root in `/run`",
    )
    SELECT_FOR_UPDATE: bool | None = setting(
        None,
        bool,
        doc="Whether claims lock rows with SKIP LOCKED. None: only if the database supports it.",
    )
    CHECK_LOCK_FILE = setting(
        False,
        bool,
        doc="For a single server: each run holds a kernel lock, so that the end of its process is "
        "noticed at once.",
    )
    LEASE_SECONDS = setting(
        60,
        int,
        float,
        doc="How long a host owns a run without renewing its lease, seconds.",
        minimum=1,
    )
    LEASE_RENEW_SECONDS = setting(
        10, int, float,
        doc="Time between renewals of a lease, seconds; less than a third of the lease.",
        minimum=0.1,
    )  # fmt: skip
    MAX_PARALLEL = computed(
        lambda: 4 * _cores(),
        int,
        doc="Maximum number of runs at the same time on this host.",
        shown="4 times the number of cores",
        minimum=1,
    )
    START_METHOD = setting(
        "fork", str, doc='How runs start: "fork" (fast) or "spawn" (a fresh Python interpreter).'
    )
    EXECUTOR = setting(
        "local",
        str,
        doc='Where runs execute, unless their job says otherwise: "local" (on the host that claims '
        'them), "celery" (on Celery workers; needs the extra `celery`), or a name from '
        "`CHRONIKER_EXECUTORS`. Jobs that are pinned to a host run there.",
    )
    EXECUTORS: Mapping[str, str] = computed(
        dict,
        dict,
        doc="Executors of the site's own: a mapping from names to dotted paths of classes that "
        "implement `chroniker.executors.base.RemoteExecutor`.",
        shown="`{}`",
    )
    QUEUE = setting(
        "celery", str,
        doc="The queue to which runs are published, unless their job names another one. The "
        "default is the queue that Celery workers consume by default.",
    )  # fmt: skip
    CELERY_APP = setting(
        "",
        str,
        doc="Dotted path of the site's Celery app, such as `mysite.celery.app`. Empty: the app "
        "that the site has made the current one.",
    )
    ALLOW_RAW_COMMANDS = setting(
        False, bool, doc="Whether jobs may run programs instead of management commands."
    )
    ALLOWED_COMMANDS: list[str] | None = setting(
        None,
        list,
        tuple,
        set,
        frozenset,
        doc="The management commands that jobs may run. None: all commands except those that open "
        "a shell, run a server or destroy data.",
    )
    ALLOWED_TASKS: list[str] | None = setting(
        None,
        list,
        tuple,
        set,
        frozenset,
        doc="Dotted paths of the tasks (`django.tasks`) that jobs may run. None: all tasks in the "
        "modules `tasks` of the installed apps.",
    )
    MAX_OUTPUT_BYTES = setting(
        1024 * 1024,
        int,
        doc="How much of each output stream of a run is stored, bytes: half of it from the start, "
        "half from the end.",
        minimum=1024,
    )
    LOG_CAPTURE_LEVEL: str | int = setting(
        "INFO",
        str,
        int,
        doc="Log records from this level up are stored with the output of the run.",
    )
    LOG_FORMAT = setting(
        "%(levelname)s %(name)s %(message)s",
        str,
        doc="The format of stored log records, as for `logging.Formatter`.",
    )
    LOG_JSON = setting(
        False,
        bool,
        doc="Whether `cron` and `cronserver` write the scheduler's own log to stderr as one JSON "
        "object a line.",
    )
    KILL_GRACE_SECONDS = setting(
        30, int, float, doc="Time between SIGTERM and SIGKILL, seconds. A job can override it.",
        minimum=0,
    )  # fmt: skip
    SECRET_NAMES: list[str] = computed(
        list,
        list,
        tuple,
        set,
        frozenset,
        doc="Names of settings and environment variables whose values are masked in output, "
        "in addition to those whose names look secret.",
        shown="`[]`",
    )
    JOB_ERROR_CALLBACK = setting(
        "",
        str,
        doc="Dotted path of a function that is called after each run that failed, timed out or was "
        "lost: `callback(job, stdout=…, stderr=…, run=…)`.",
    )
    DEADMAN_URL = setting(
        "",
        str,
        doc="The URL of a dead man's switch. Each tick sends a GET request to it, so that an "
        "outside service notices when ticks stop.",
    )
    DEADMAN_TIMEOUT_SECONDS = setting(
        5,
        int,
        float,
        doc="Timeout of the request to the dead man's switch, seconds. No run waits for it.",
        minimum=0.1,
    )
    OVERDUE_SECONDS = setting(
        300, int, float,
        doc="How long a job may be due without being started before an incident opens, seconds.",
        minimum=1,
    )  # fmt: skip
    HOST_RETIRE_HOURS = setting(
        72, int, float,
        doc="After how many hours without a tick a host is retired. 0: never. The default is "
        "longer than a weekend, so that the alert for a dead machine is still there on Monday.",
        minimum=0,
    )  # fmt: skip
    FLAPPING_FLIPS = setting(
        4, int,
        doc="How many times an incident may open and resolve within a day before it is flapping.",
        minimum=2,
    )  # fmt: skip
    FLAPPING_QUIET_SECONDS = setting(
        3600,
        int,
        float,
        doc="How long an incident must be stable until it is no longer flapping, seconds.",
        minimum=1,
    )
    EMAIL_SENDER = setting("", str, doc="The sender name of emails.")
    EMAIL_HOST_USER = setting(
        "", str,
        doc="The sender address of emails. If it differs from the site's mail user, it is also the "
        "user for the login at the mail server. Empty: `DEFAULT_FROM_EMAIL`.",
    )  # fmt: skip
    EMAIL_SUBJECT_PREFIX = setting("[Chroniker] ", str, doc="The prefix of email subjects.")
    EMAIL_TIMEOUT: float | None = computed(
        lambda: None,
        int,
        float,
        doc="Timeout for one reply of the mail server, seconds.",
        shown="that of the site (`EMAIL_TIMEOUT`, or `timeout` in `MAILERS`), or 10",
        minimum=0.1,
    )
    EMAIL_TO_ADMINS = setting(
        False, bool, doc="Whether `ADMINS` receive the emails of a job that has no subscribers."
    )
    SITE_URL = setting(
        "", str,
        doc="The address of the site for links in emails, such as `https://www.example.com`. "
        "Empty: the current site of `django.contrib.sites` if it is installed; otherwise no links.",
    )  # fmt: skip
    NOTIFIERS: list[str] = computed(
        list,
        list,
        tuple,
        doc="Dotted paths of notification channels other than email, such as "
        "`chroniker.alerting.webhook.Webhook`.",
        shown="`[]`",
    )
    APPRISE_URLS: Mapping[str, str | Sequence[str]] | Sequence[str] = setting(
        (),
        list,
        tuple,
        dict,
        doc="Where the channel Apprise sends (needs the extra `apprise`): a list of URLs, or a "
        'mapping from a team to its URLs, in which the team `""` stands for all jobs.',
    )
    STORM_INCIDENTS = setting(
        10, int,
        doc="How many notifications of one kind a recipient may get within five minutes. Beyond "
        "that, they are combined to one message that lists them.",
        minimum=1,
    )  # fmt: skip
    WEBHOOK_URL = setting(
        "", str, doc="The URL to which `chroniker.alerting.webhook.Webhook` posts."
    )
    WEBHOOK_SECRET = setting(
        "",
        str,
        doc="The secret that signs webhook requests: `whsec_` and Base64. The receiver needs the "
        "same one.",
    )
    WEBHOOK_TIMEOUT = setting(
        10, int, float, doc="Timeout of a webhook request, seconds.", minimum=0.1
    )
    DELIVERY_TIMEOUT_SECONDS = setting(
        20, int, float,
        doc="How long a tick sends pending notifications, seconds. The next tick continues.",
        minimum=1,
    )  # fmt: skip
    DELIVERY_MAX_AGE_DAYS = setting(
        7, int, float, doc="After how many days a notification that cannot be sent is dropped.",
        minimum=0.01,
    )  # fmt: skip
    METRICS_DURATION_BUCKETS: tuple[float, ...] = setting(
        (0.1, 0.5, 1, 5, 15, 30, 60, 300, 900, 1800, 3600, 14400),
        list,
        tuple,
        doc="Upper bounds of the histograms of duration and start lag, seconds, ascending.",
    )


conf = Conf()


LOCAL = "local"
CELERY = "celery"


def remote_executors() -> frozenset[str]:
    """Return the names of the executors that hand runs over to workers."""
    extra = conf.EXECUTORS
    return frozenset({CELERY, *(extra if isinstance(extra, Mapping) else ())}) - {LOCAL}


def all_settings() -> list[Setting[object]]:
    """Return every setting, for system checks and documentation."""
    return [value for value in vars(Conf).values() if isinstance(value, Setting)]


def default_runtime_dir() -> str:
    """Return a directory for lock files that belongs to this user and is empty after a reboot."""
    # Not XDG_RUNTIME_DIR: ticks of cron and of a login shell need the same directory.
    base = "/run" if os.geteuid() == 0 and os.access("/run", os.W_OK) else "/tmp"  # noqa: S108
    return os.path.join(base, f"chroniker-{os.geteuid()}")


def runtime_dir() -> str:
    """Return :attr:`Conf.RUNTIME_DIR`, and create it if missing, with access for its owner only."""
    path: str = conf.RUNTIME_DIR
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
    except OSError as error:
        raise type(error)(
            f"The directory for lock files, {path}, cannot be created: {error.strerror}. Set "
            "CHRONIKER_RUNTIME_DIR to a directory that the user who runs the jobs can write to."
        ) from error
    facts = os.lstat(path)  # do not follow a link that another user may have created
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid() or facts.st_mode & 0o022:
        raise PermissionError(
            f"{path} is not a directory that belongs to the user who runs the jobs and that only "
            "this user can write to. Fix its owner and mode, or set CHRONIKER_RUNTIME_DIR to "
            "another directory."
        )
    return path


def settings_table(entries: Sequence[Setting[object]]) -> str:
    """Return settings as a Markdown table; ``docs/reference/settings.md`` holds it."""
    lines = ["| setting | default | meaning |", "|---|---|---|"]
    for entry in entries:
        default = entry.shown or f"`{entry.default!r}`"
        lines.append(f"| `{entry.name}` | {default} | {entry.doc} |")
    return "\n".join(lines) + "\n"
