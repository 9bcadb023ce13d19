"""docs/reference/settings.md lists every setting with its default."""

from __future__ import annotations

import os

from chroniker import conf
from chroniker_monitors.conf import all_settings as metrics_settings
from tests.support.machine import REPO

PAGE = REPO / "docs" / "reference" / "settings.md"
MARK = "<!-- settings: written by tests/chroniker/test_settings_reference.py, run with WRITE=1 -->"


def test_page_matches_the_code() -> None:
    head = PAGE.read_text().partition(MARK)[0]
    text = f"{head}{MARK}\n\n{conf.settings_table([*conf.all_settings(), *metrics_settings()])}"
    if os.environ.get("WRITE"):
        PAGE.write_text(text)
    assert PAGE.read_text() == text
