"""The jobs of the demo's bookshop."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.machine import REPO

SALES = """\
receipt,sold_on,isbn,quantity,unit_price
R1,2026-01-01,1,2,0.10
R2,2026-01-01,1,1,0.29
R3,2026-01-01,2,1,19.99
R4,2026-01-02,2,3,1.05
X1,2026-01-02,2,three,1.05
X2,2026-01-02,3,1,1.05
X3,2026-01-02,2,1,1.055
X4,2026-02-30,2,1,1.05
X5,2026-01-02,2,1
"""


class Bookshop:
    """A migrated demo site with two books."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def manage(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "manage.py", *command],
            cwd=REPO / "demo",
            env=os.environ
            | {
                "DEMO_DIR": str(self.directory),
                "DJANGO_SETTINGS_MODULE": "bookshop_site.settings",
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def execute(self, statement: str) -> list[Any]:
        with closing(sqlite3.connect(self.directory / "bookshop.sqlite3")) as database:
            rows = database.execute(statement).fetchall()
            database.commit()
            return rows


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("bookshop")
    shop = Bookshop(directory)
    ended = shop.manage("migrate", "--verbosity=0")
    assert ended.returncode == 0, ended.stderr
    shop.execute(
        "INSERT INTO shop_book (isbn, title, author, category, price_cents, stock) VALUES "
        "('1', 'Salt River Atlas', 'Ada Byrne', 'travel', 100, 0), "
        "('2', 'Paper Island Mystery', 'Ivo Novák', 'crime', 100, 0)"
    )
    return directory


@pytest.fixture
def shop(migrated: Path, tmp_path: Path) -> Bookshop:
    directory = tmp_path / "bookshop"
    shutil.copytree(migrated, directory)
    (directory / "sales.csv").write_text(SALES)
    return Bookshop(directory)


@pytest.mark.slow
def test_import_is_idempotent_and_reports_malformed_rows(shop: Bookshop) -> None:
    first = shop.manage("import_sales")
    assert first.returncode == 0, first.stderr
    assert "4 new sales, 0 known, 5 malformed" in first.stdout
    assert [line.split(":")[0] for line in first.stderr.splitlines()] == [
        f"sales.csv, line {number}" for number in range(6, 11)
    ]
    shop.execute("DELETE FROM shop_sale WHERE receipt = 'R2'")
    assert "1 new sales, 3 known, 5 malformed" in shop.manage("import_sales").stdout
    assert shop.execute("SELECT count(*), sum(unit_cents) FROM shop_sale") == [(4, 2143)]


@pytest.mark.slow
def test_import_without_a_valid_row_fails(shop: Bookshop) -> None:
    (shop.directory / "sales.csv").write_text("receipt,sold_on,isbn,quantity,unit_price\nwhat?\n")
    ended = shop.manage("import_sales")
    assert ended.returncode == 1
    assert "No row could be read" in ended.stderr


@pytest.mark.slow
def test_report_adds_whole_cents_and_replaces_itself(shop: Bookshop) -> None:
    shop.manage("import_sales")
    for _ in range(2):
        assert "2 days, 23.63 €" in shop.manage("build_report").stdout
    assert shop.execute(
        "SELECT day, category, copies, revenue_cents FROM shop_dailyreport ORDER BY 1, 2"
    ) == [
        ("2026-01-01", "crime", 1, 1999),
        ("2026-01-01", "travel", 3, 49),
        ("2026-01-02", "crime", 3, 315),
    ]


@pytest.mark.slow
def test_backups_are_readable_and_only_the_newest_are_kept(shop: Bookshop) -> None:
    for _ in range(3):
        ended = shop.manage("backup_database", "--keep=2")
        assert ended.returncode == 0, ended.stderr
    backups = list((shop.directory / "backups").iterdir())
    assert len(backups) == 2
    with closing(sqlite3.connect(backups[0])) as database:
        assert database.execute("SELECT count(*) FROM shop_book").fetchone() == (2,)


@pytest.mark.slow
def test_seeding_twice_changes_nothing(shop: Bookshop) -> None:
    tables = (
        "shop_book", "auth_user", "chroniker_job", "chroniker_jobdependency",
        "chroniker_monitors_probe", "chroniker_maintenance", "chroniker_job_subscribers",
    )  # fmt: skip
    shop.execute("DELETE FROM shop_book")

    def counts() -> list[Any]:
        return [shop.execute(f"SELECT count(*) FROM {table}") for table in tables]

    first = shop.manage("seed_demo")
    assert first.returncode == 0, first.stderr
    built = counts()
    shop.execute("UPDATE chroniker_job SET schedule = '@daily'")
    assert shop.manage("seed_demo").returncode == 0
    assert counts() == built
    assert shop.execute("SELECT DISTINCT schedule FROM chroniker_job") == [("@daily",)]
