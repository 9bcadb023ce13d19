"""The test site in a Celery worker. ``TEST_LEASE_SECONDS``: the length of a lease."""

from __future__ import annotations

import os

from tests.settings import *  # noqa: F403

CHRONIKER_CELERY_APP = "tests.support.celery_site.app"
CHRONIKER_EXECUTORS = {"toy": "tests.support.toy_executor.ToyExecutor"}
CHRONIKER_LEASE_SECONDS = float(os.environ.get("TEST_LEASE_SECONDS", "6"))
CHRONIKER_LEASE_RENEW_SECONDS = min(0.5, CHRONIKER_LEASE_SECONDS / 4)
CHRONIKER_KILL_GRACE_SECONDS = 1
CHRONIKER_ALLOW_RAW_COMMANDS = True
