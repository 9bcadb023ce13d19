"""Settings of the measured site: those of the tests, with the commands of this package."""

from __future__ import annotations

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS as _TESTS_APPS

INSTALLED_APPS = [*_TESTS_APPS, "benchmarks"]
