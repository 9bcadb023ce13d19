"""What every process of a site pays: both apps' part of django.setup()."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

SETUP = """
import json, sys
from django.conf import settings
apps = json.loads(sys.argv[1])
settings.configure(
    INSTALLED_APPS=[f"django.contrib.{name}" for name in
                    ("admin", "auth", "contenttypes", "sessions", "messages")] + apps,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField", USE_TZ=True,
)
import django
django.setup()
%s
print(json.dumps(sorted(sys.modules)))
"""

HEAVY = {
    "apprise", "asyncio", "celery", "chroniker.admin.jobs", "chroniker.engine", "chroniker.masking",
    "chroniker.schedules", "chroniker_monitors.admin.monitors", "chroniker_monitors.collector",
    "chroniker_monitors.probes", "concurrent.futures", "cron_descriptor", "croniter", "dateutil",
    "email.message", "http.client", "humanize", "importlib.metadata", "jsonschema",
    "multiprocessing", "opentelemetry", "prometheus_client", "psutil", "requests",
    "sentry_sdk", "smtplib", "ssl", "subprocess", "tzlocal", "unittest", "urllib.request",
    "urllib3", "yaml",
}  # fmt: skip
OURS = ("chroniker", "chroniker_monitors")
MAX_MODULES = 50
"""Of both apps and of what only they import. A module costs a quarter of a millisecond or more."""


def modules(*apps: str, then: str = "") -> set[str]:
    """The modules that are imported in a new process after the setup of a site."""
    command = [sys.executable, "-c", SETUP % then, json.dumps(apps)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


@pytest.fixture(scope="module")
def added() -> set[str]:
    """The modules that a process imports because of both apps."""
    return modules(*OURS) - modules()


def test_setup_imports_nothing_heavy(added: set[str]) -> None:
    assert not added & HEAVY


def test_setup_imports_few_modules(added: set[str]) -> None:
    assert len(added) <= MAX_MODULES, sorted(added)


def test_pages_are_imported_with_the_urls_of_the_admin() -> None:
    use = "from django.contrib import admin; admin.site.urls"
    assert {"chroniker.admin.jobs", "chroniker_monitors.admin.monitors"} <= modules(*OURS, then=use)


def test_admin_classes_are_those_of_the_package() -> None:
    use = (
        "from django.contrib import admin; from chroniker.models import Job\n"
        "from chroniker.admin import JobAdmin\n"
        "assert isinstance(admin.site.get_model_admin(Job), JobAdmin)\n"
        "admin.site.unregister(Job); admin.site.register(Job, JobAdmin)"
    )
    modules(*OURS, then=use)
