"""The site of the metrics tests; its host name comes from the environment."""

from __future__ import annotations

import os

from tests.support.site_settings import *  # noqa: F403

CHRONIKER_HOSTNAME = os.environ.get("TEST_HOSTNAME", "web1")
CHRONIKER_METRICS_DETAIL = "default"
