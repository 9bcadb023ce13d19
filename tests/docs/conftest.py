from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from .example_site import ExampleSite


@pytest.fixture(scope="session")
def installed_site(tmp_path_factory: pytest.TempPathFactory) -> ExampleSite:
    """A migrated site with both apps; do not change it, copy it."""
    site = ExampleSite.create(tmp_path_factory.mktemp("installed"))
    site.install()
    site.migrate()
    return site


@pytest.fixture
def bare_site(tmp_path: Path) -> ExampleSite:
    """A site as ``startproject`` makes it, without Chroniker and without tables."""
    return ExampleSite.create(tmp_path)


@pytest.fixture
def site(installed_site: ExampleSite, tmp_path: Path) -> ExampleSite:
    """A copy of the installed site that the test may change."""
    directory = tmp_path / "site"
    shutil.copytree(installed_site.directory, directory)
    return ExampleSite(directory)
