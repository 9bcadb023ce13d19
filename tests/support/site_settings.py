"""The test site as an operator would run it: django-prometheus, a token, several processes."""

from __future__ import annotations

import os

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS, MIDDLEWARE

INSTALLED_APPS = [*INSTALLED_APPS, "django_prometheus"]
MIDDLEWARE = [
    "django_prometheus.middleware.PrometheusBeforeMiddleware",
    *MIDDLEWARE,
    "django_prometheus.middleware.PrometheusAfterMiddleware",
]
CHRONIKER_METRICS_TOKEN = "a-token-of-some-length"
# Many scrapes on a busy machine take longer than one scraper may wait.
CHRONIKER_METRICS_TIMEOUT_SECONDS = float(os.environ.get("TEST_SCRAPE_SECONDS", "2"))
CHRONIKER_METRICS_DETAIL = "high"
