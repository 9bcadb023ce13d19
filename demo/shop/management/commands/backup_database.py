from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from chroniker.models import Job
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

PAGES_PER_STEP = 200


class Command(BaseCommand):
    help = "Copy the database with SQLite's backup API, check the copy, delete old copies."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--keep", type=int, default=5, metavar="N")

    def handle(self, *args: object, keep: int, **options: object) -> None:
        if keep < 1:
            raise CommandError("--keep must be at least 1.")
        folder: Path = settings.BACKUP_DIR
        folder.mkdir(exist_ok=True)
        unfinished = folder / "unfinished.sqlite3"
        unfinished.unlink(missing_ok=True)
        copy_database(Path(settings.DATABASES["default"]["NAME"]), unfinished)
        backup = folder / f"bookshop-{datetime.now(UTC):%Y%m%dT%H%M%S%f}Z.sqlite3"
        unfinished.rename(backup)
        for old in sorted(folder.glob("bookshop-*.sqlite3"))[:-keep]:
            old.unlink()
            self.stdout.write(f"deleted {old.name}")
        self.stdout.write(f"{backup.name}: {backup.stat().st_size} bytes, checked")


def copy_database(database: Path, copy: Path) -> None:
    """Copy ``database`` as it is now. Raises CommandError if the copy is damaged."""
    with closing(sqlite3.connect(database, timeout=20)) as source:
        source.isolation_level = None
        # Read in one transaction: otherwise each write of another process restarts the backup,
        # which would never finish on a busy site.
        source.execute("BEGIN")
        source.execute("SELECT count(*) FROM sqlite_master").fetchone()
        with closing(sqlite3.connect(copy)) as target:
            source.backup(target, pages=PAGES_PER_STEP, progress=_report_progress)
            target.execute("PRAGMA journal_mode = DELETE")  # one file, without -wal and -shm
            (verdict,) = target.execute("PRAGMA integrity_check").fetchone()
    if verdict != "ok":
        raise CommandError(f"The backup {copy} is damaged: {verdict}")


def _report_progress(status: int, remaining: int, total: int) -> None:
    Job.update_progress(total_parts=total, total_parts_complete=total - remaining)
