"""Settings of the bookshop. It writes only to ``$DEMO_DIR``, by default ``var/demo``."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
STATE_DIR = Path(os.environ.get("DEMO_DIR") or BASE_DIR.parent / "var" / "demo").resolve()
STATE_DIR.mkdir(parents=True, exist_ok=True)


def _read_or_create(name: str, value: str) -> str:
    """Return the text of a file in the state directory; create it with ``value`` if missing."""
    path = STATE_DIR / name
    try:
        with open(path, "x", opener=lambda file, flags: os.open(file, flags, 0o600)) as new:
            new.write(value)
    except FileExistsError:
        pass
    return path.read_text()


SECRET_KEY = _read_or_create("secret-key", secrets.token_urlsafe(50))
SITE_URL = os.environ.get("DEMO_URL") or _read_or_create("site-url", "http://127.0.0.1:8000")
SALES_FILE = STATE_DIR / "sales.csv"
BACKUP_DIR = STATE_DIR / "backups"

DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "[::1]"]
ROOT_URLCONF = "bookshop_site.urls"
WSGI_APPLICATION = "bookshop_site.wsgi.application"
STATIC_URL = "/static/"
USE_TZ = True
TIME_ZONE = "Europe/Berlin"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Web workers, the scheduler and its jobs all write. WAL: readers do not wait for a writer.
# timeout: a writer waits for another writer. IMMEDIATE: a transaction takes the lock when it
# begins, because SQLite cannot wait for the lock later.
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": STATE_DIR / "bookshop.sqlite3",
        "OPTIONS": {
            "timeout": 20,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;",
        },
    }
}

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django_prometheus",
    "chroniker",
    "chroniker_monitors",
    "shop",
]
MIDDLEWARE = [
    "django_prometheus.middleware.PrometheusBeforeMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_prometheus.middleware.PrometheusAfterMiddleware",
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

EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
EMAIL_FILE_PATH = STATE_DIR / "mail"
DEFAULT_FROM_EMAIL = "The bookshop <chroniker@bookshop.example>"

CHRONIKER_SITE_URL = SITE_URL
CHRONIKER_RUNTIME_DIR = str(STATE_DIR / "run")
CHRONIKER_KILL_GRACE_SECONDS = 5
if os.environ.get("DEMO_BROKER"):  # make demo-celery
    CHRONIKER_EXECUTOR = "celery"
    CHRONIKER_QUEUE = "chroniker"
    CHRONIKER_CELERY_APP = "bookshop_site.celery.app"
# The shop monitors its own front page, which is not on the public network.
CHRONIKER_MONITORS_ALLOWED_NETWORKS = ["127.0.0.0/8", "::1/128"]
