"""The site that is measured: the test suite's, with the commands of this package."""

from __future__ import annotations

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS as _TESTS_APPS

INSTALLED_APPS = [*_TESTS_APPS, "benchmarks"]
