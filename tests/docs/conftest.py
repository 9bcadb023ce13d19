from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.settings import SCRATCH

from .blocks import README, iter_blocks
from .example_site import ExampleSite


@pytest.fixture(scope="session")
def sites_directory() -> Iterator[Path]:
    """In memory if possible, because migrating SQLite on a disk takes a long time."""
    with tempfile.TemporaryDirectory(prefix="docs-", dir=SCRATCH) as directory:
        yield Path(directory)


@pytest.fixture(scope="session")
def readme_site(sites_directory: Path) -> ExampleSite:
    """The README's instructions applied to a new project. Do not change it; copy it."""
    site = ExampleSite.create(sites_directory / "readme")
    for block in iter_blocks(README):
        if block.language == "python":
            assert site.apply(block), f"{block.where} names no file"
    site.migrate()
    return site


@pytest.fixture
def site(readme_site: ExampleSite, sites_directory: Path) -> Iterator[ExampleSite]:
    """A copy of the README's site that the test may change."""
    with tempfile.TemporaryDirectory(dir=sites_directory) as directory:
        shutil.copytree(readme_site.directory, directory, dirs_exist_ok=True)
        yield ExampleSite(Path(directory))


@pytest.fixture
def bare_site(sites_directory: Path) -> Iterator[ExampleSite]:
    """A project as ``startproject`` creates it, without Chroniker and without tables."""
    with tempfile.TemporaryDirectory(dir=sites_directory) as directory:
        yield ExampleSite.create(Path(directory))
