"""The names of the demo's jobs and monitors."""

from __future__ import annotations

IMPORT = "Import sales"
REPORT = "Build the sales report"
BACKUP = "Back up the database"
SESSIONS = "Clear expired sessions"
FEED = "Fetch the publisher's feed"
REINDEX = "Reindex the search"

LOW_STOCK = "Books about to run out"
WEEK_OF_STOCK = "Books that will not last a week"
BACKUP_AGE = "Age of the newest backup"
FRONT_PAGE = "Front page"
TILL = "Till number one"

INITIALLY_UNKNOWN = {WEEK_OF_STOCK, BACKUP_AGE}
"""Monitors whose checks fail until the jobs have made what they measure."""
