from __future__ import annotations

from tests.settings import *  # noqa: F403

CHRONIKER_LEASE_RENEW_SECONDS = 50
