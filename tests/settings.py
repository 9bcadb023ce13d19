"""Settings of the test suite.

``CHRONIKER_TEST_DB`` chooses the database: ``sqlite`` (a file, the default), ``postgres`` or
``mariadb``; the servers are those on loopback. Files are used for SQLite because the jobs of a
test are real processes, which could not see a database in memory.

``CHRONIKER_TEST_DB_NAME`` is the very database, for processes that a test starts: conftest.py
gives every pytest process a test database of its own and hands its name (for SQLite, its path)
on in this variable.
"""

from __future__ import annotations

import os
import tempfile
from importlib.util import find_spec
from pathlib import Path

import django

BACKEND = os.environ.get("CHRONIKER_TEST_DB", "sqlite")
# In memory if possible: SQLite tests then do not wait for a disk.
_scratch = "/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir()
SCRATCH = (
    Path(os.environ.get("CHRONIKER_TEST_SCRATCH", _scratch)) / f"chroniker-tests-{os.getuid()}"
)
SCRATCH.mkdir(parents=True, exist_ok=True)
_name = os.environ.get("CHRONIKER_TEST_DB_NAME")

DATABASES = {
    "sqlite": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": _name or str(SCRATCH / "site.sqlite3"),
        "OPTIONS": {
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
    },
    "postgres": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _name or "postgres",
        "USER": os.environ.get("PGUSER", "postgres"),
        "PASSWORD": os.environ.get("PGPASSWORD", ""),
        "HOST": os.environ.get("PGHOST", "127.0.0.1"),
        "PORT": os.environ.get("PGPORT", "5432"),
    },
    "mariadb": {
        "ENGINE": "django.db.backends.mysql",
        "NAME": _name or "test",
        "USER": os.environ.get("MYSQL_USER", "root"),
        "PASSWORD": os.environ.get("MYSQL_PASSWORD", ""),
        "HOST": os.environ.get("MYSQL_HOST", "127.0.0.1"),
        "PORT": os.environ.get("MYSQL_PORT", "3306"),
        "OPTIONS": {"charset": "utf8mb4"},
        "TEST": {"CHARSET": "utf8mb4"},
    },
}
DATABASES = {"default": DATABASES[BACKEND]}

SECRET_KEY = "tests-only-secret-key"
DEBUG = False
USE_TZ = True
# Otherwise each command would say on stderr that the SQLite database has no transaction_mode.
SILENCED_SYSTEM_CHECKS = ["chroniker.W002"]
TIME_ZONE = "UTC"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "tests.urls"
STATIC_URL = "/static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "chroniker",
    "chroniker_monitors",
    "tests.testapp",
]

# Tasks: with Django 6, or with the backport, and the backend that stores them in the database.
_tasks = "django.tasks" if django.VERSION >= (6, 0) else "django_tasks"
if django.VERSION < (6, 0) and find_spec("django_tasks"):
    INSTALLED_APPS.append("django_tasks")
TASKS = {
    "default": {"BACKEND": f"{_tasks}.backends.immediate.ImmediateBackend"},
    "dummy": {"BACKEND": f"{_tasks}.backends.dummy.DummyBackend"},
}
if find_spec("django_tasks_db"):
    INSTALLED_APPS.append("django_tasks_db")
    TASKS["stored"] = {"BACKEND": "django_tasks_db.DatabaseBackend"}
MIGRATION_MODULES = {"django_tasks_db": None}  # its table without the history of its migrations
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
