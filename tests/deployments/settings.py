"""The test site as different deployments have it; ``CHRONIKER_DEPLOYMENT`` names which.

The tables are always those of the test database of this process. A database that nothing of
Chroniker may touch is one that cannot be reached: whoever touches it fails.
"""

from __future__ import annotations

import copy
import json
import os
from typing import Any

from tests.settings import *  # noqa: F403
from tests.settings import BACKEND, DATABASES

KINDS = set(os.environ["CHRONIKER_DEPLOYMENT"].split(","))

main: dict[str, Any] = copy.deepcopy(DATABASES["default"])
main.setdefault("OPTIONS", {})
unreachable: dict[str, Any] = copy.deepcopy(main)
if BACKEND == "sqlite":
    unreachable["NAME"] = "/nowhere/at/all.sqlite3"
else:
    unreachable |= {"HOST": "127.0.0.1", "PORT": "1"}

if "pool" in KINDS:
    main["OPTIONS"]["pool"] = True
if "persistent" in KINDS:
    main["CONN_MAX_AGE"] = None
if "atomic_requests" in KINDS:
    main["ATOMIC_REQUESTS"] = True
if "schema" in KINDS:
    main["OPTIONS"]["options"] = "-c search_path=elsewhere"
if "strict" in KINDS:
    main["OPTIONS"]["init_command"] = "SET sql_mode = 'STRICT_ALL_TABLES,NO_ZERO_DATE'"
    TIME_ZONE = "Europe/Berlin"
if "pgbouncer" in KINDS:
    main["DISABLE_SERVER_SIDE_CURSORS"] = True
# host, port, user, password of another way to the same database
main |= json.loads(os.environ.get("CHRONIKER_DEPLOYMENT_DATABASE", "{}"))

DATABASES = {"default": main}
if "own_alias" in KINDS:
    DATABASES = {"default": unreachable, "scheduler": main}
    DATABASE_ROUTERS = ["tests.deployments.routers.OwnAlias"]
if "replica" in KINDS:
    DATABASES = {"default": main, "replica": unreachable}
    DATABASE_ROUTERS = ["tests.deployments.routers.ReadsFromReplica"]
    if replica := os.environ.get("CHRONIKER_DEPLOYMENT_REPLICA"):
        DATABASES["replica"] = main | json.loads(replica)

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"err": {"class": "logging.StreamHandler"}},
    "loggers": {"chroniker": {"handlers": ["err"], "level": "WARNING"}},
}
EMAIL_BACKEND = "django.core.mail.backends.dummy.EmailBackend"
