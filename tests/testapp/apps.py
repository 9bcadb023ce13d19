from __future__ import annotations

from django.apps import AppConfig


class TestAppConfig(AppConfig):
    __test__ = False
    name = "tests.testapp"

    def ready(self) -> None:
        from . import gauge  # noqa: F401
