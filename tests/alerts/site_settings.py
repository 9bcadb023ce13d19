"""The site of the metrics' tests; what ticks may say which host it is."""

from __future__ import annotations

import os

from tests.support.site_settings import *  # noqa: F403

CHRONIKER_HOSTNAME = os.environ.get("TEST_HOSTNAME", "web1")
