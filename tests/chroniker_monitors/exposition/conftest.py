"""The test site behind gunicorn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.metrics_servers import run_gunicorn


@pytest.fixture
def site(site_env: dict[str, str], tmp_path: Path) -> Iterator[str]:
    """The address of a site with two workers of two threads."""
    with run_gunicorn(site_env, tmp_path, "--threads=2") as address:
        yield address


@pytest.fixture
def busy_site(site_env: dict[str, str], tmp_path: Path) -> Iterator[str]:
    """A site for many scrapes at once: more threads, and a longer time limit."""
    with run_gunicorn(
        site_env | {"TEST_SCRAPE_SECONDS": "15"}, tmp_path, "--threads=20"
    ) as address:
        yield address
