from __future__ import annotations

import os

from django.apps import AppConfig

DSN_VARIABLE = "CHRONIKER_TEST_SENTRY_DSN"


class TestAppConfig(AppConfig):
    __test__ = False
    name = "tests.testapp"

    def ready(self) -> None:
        from tests.testapp import gauge, unruly  # noqa: F401

        if os.environ.get(DSN_VARIABLE):
            init_sentry()


def init_sentry() -> None:
    """Initialize Sentry as a site does in its settings."""
    import sentry_sdk

    from chroniker_monitors.sentry import client

    sentry_sdk.init(dsn=os.environ[DSN_VARIABLE], environment="tests", release="bookshop@1")
    # Under load, events that a test waits for must not be dropped.
    client.FLUSH_SECONDS = float(os.environ.get("CHRONIKER_TEST_SENTRY_FLUSH", "30"))
