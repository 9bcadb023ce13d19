"""Settings of the fake hosts: the test site, ticking fast, with leases of a few seconds."""

from __future__ import annotations

import copy
import os
import sys
from typing import Any

from tests.faults.current import DEPLOYMENT
from tests.faults.deployment import Deployment
from tests.settings import *  # noqa: F403
from tests.settings import BACKEND, DATABASES, INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.faults.app"]

CHRONIKER_LEASE_SECONDS = 3.0
CHRONIKER_LEASE_RENEW_SECONDS = 0.5
CHRONIKER_KILL_GRACE_SECONDS = 1
CHRONIKER_MAX_PARALLEL = 8
CHRONIKER_MAX_OUTPUT_BYTES = 64 * 1024
CHRONIKER_ALLOW_RAW_COMMANDS = True

if os.environ.get("CHRONIKER_FAULTS_BROKER"):  # a Celery worker; the hosts are told later
    CHRONIKER_EXECUTOR = "celery"
    CHRONIKER_EXECUTORS = {"celery": "tests.faults.celery_site.NotingExecutor"}
    CHRONIKER_CELERY_APP = "tests.faults.celery_site.app"
    CHRONIKER_LEASE_SECONDS = float(os.environ["CHRONIKER_FAULTS_LEASE"])
    CHRONIKER_RUNTIME_DIR = os.environ["CHRONIKER_FAULTS_RUNTIME_DIR"]
    CHRONIKER_HOSTNAME = os.environ["CHRONIKER_FAULTS_HOST"]

main: dict[str, Any] = DATABASES["default"]  # type: ignore[assignment]
if BACKEND == "postgres":
    # The proxy reads the protocol, so that it can lose the reply to a COMMIT.
    main["OPTIONS"] = {"sslmode": "disable", "gssencmode": "disable"}

match DEPLOYMENT:
    case Deployment.PGBOUNCER | Deployment.PGBOUNCER_SESSION:
        main["DISABLE_SERVER_SIDE_CURSORS"] = True
    case Deployment.ALIAS:
        # Whatever of Chroniker touches `default` fails.
        unreachable = copy.deepcopy(main)
        unreachable |= (
            {"NAME": "/nowhere/at/all.sqlite3"}
            if BACKEND == "sqlite"
            else {"HOST": "127.0.0.1", "PORT": "1"}
        )
        DATABASES = {"default": unreachable, "scheduler": main}
        DATABASE_ROUTERS = ["tests.deployments.routers.OwnAlias"]
    case Deployment.REPLICA:
        replica = copy.deepcopy(main) | {"PORT": os.environ["CHRONIKER_FAULTS_REPLICA_PORT"]}
        DATABASES = {"default": main, "replica": replica}
        DATABASE_ROUTERS = ["tests.deployments.routers.ReadsFromReplica"]

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(process)d %(name)s %(message)s"}},
    "handlers": {"err": {"class": "logging.StreamHandler", "formatter": "line",
                         "stream": sys.stderr}},
    "loggers": {"chroniker": {"handlers": ["err"], "level": "INFO"}},
}  # fmt: skip
