"""Tests of the demo. Those in ``running`` need its settings: ``make smoke`` runs them."""

from __future__ import annotations

import os

from tests.support.machine import REPO

collect_ignore: list[str] = []
if os.environ.get("DJANGO_SETTINGS_MODULE") != "bookshop_site.settings":
    collect_ignore = ["running"]
if not (REPO / "demo").exists():  # the source distribution has no demo
    collect_ignore += [
        path.name for path in (REPO / "tests" / "demo").iterdir() if path.name != "conftest.py"
    ]
