"""Settings of the fake hosts: the test site, ticking fast, with leases of a few seconds."""

from __future__ import annotations

import sys
from typing import Any

from tests.settings import *  # noqa: F403
from tests.settings import BACKEND, DATABASES, INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.faults.app"]

CHRONIKER_LEASE_SECONDS = 3.0
CHRONIKER_LEASE_RENEW_SECONDS = 0.5
CHRONIKER_KILL_GRACE_SECONDS = 1
CHRONIKER_MAX_PARALLEL = 8
CHRONIKER_MAX_OUTPUT_BYTES = 64 * 1024
CHRONIKER_ALLOW_RAW_COMMANDS = True

if BACKEND == "postgres":
    # The proxy reads the protocol, so that it can lose the reply to a COMMIT.
    default: dict[str, Any] = DATABASES["default"]  # type: ignore[assignment]
    default["OPTIONS"] = {"sslmode": "disable", "gssencmode": "disable"}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(process)d %(name)s %(message)s"}},
    "handlers": {"err": {"class": "logging.StreamHandler", "formatter": "line",
                         "stream": sys.stderr}},
    "loggers": {"chroniker": {"handlers": ["err"], "level": "INFO"}},
}  # fmt: skip
