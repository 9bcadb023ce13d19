"""Settings of the measured site: those of the tests, with the commands of this package."""

from __future__ import annotations

import os

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS as _TESTS_APPS

INSTALLED_APPS = [*_TESTS_APPS, "benchmarks"]
_chosen = os.environ.get("CHRONIKER_BENCH_APPS")
if _chosen:  # "only" both apps on a site of Django, or "none" of them
    _ours = ("chroniker", "chroniker_monitors") if _chosen == "only" else ()
    INSTALLED_APPS = [app for app in _TESTS_APPS if app.startswith("django.") or app in _ours]
ROOT_URLCONF = "benchmarks.urls"

# What the monitors of the benchmarks need: a server of this machine, and a database for SQL.
CHRONIKER_MONITORS_ALLOWED_NETWORKS = ("127.0.0.0/8",)
CHRONIKER_MONITORS_SQL_ALIAS = "default"
