"""Limits that the documentation states are those of the code; what is measured has its command."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from chroniker.admin.output_segments import MAX_LINES
from chroniker.admin.run_output import MAX_SHOWN
from chroniker.alerting import attempts
from chroniker.engine import claimer, heartbeat
from chroniker.schedules import MAX_LENGTH
from chroniker.schedules.recurrence_parser import MAX_COUNT
from chroniker_monitors.checking.pings import MAX_BODY_BYTES, MAX_PINGS_PER_MINUTE
from chroniker_monitors.checking.sandbox import MAX_SANDBOXES, MAX_SECONDS
from chroniker_monitors.models.state import MAX_RECENT_VALUES
from chroniker_monitors.probes import registry
from chroniker_monitors.probes.error_messages import MAX_MESSAGE
from chroniker_monitors.probes.files import MAX_FILES
from chroniker_monitors.probes.http import MAX_BODY

from .blocks import REPO

pytestmark = pytest.mark.slow

DOCS = REPO / "docs"
CLAIM_WINDOW = claimer._CLAIM_WINDOW_SECONDS
WORDS = {"four": 4, "ten": 10, "eighteen": 18, "an": 1}
UNITS = {"": 1, "kB": 1000, "MiB": 1024**2, "second": 1, "seconds": 1, "minutes": 60, "hour": 3600}

STATEMENTS = [
    ("CHANGELOG.md", r"(\w+) kinds of measurements", len(registry.SHIPPED)),
    ("SECURITY.md", r"accepts (\d+) pings a minute", MAX_PINGS_PER_MINUTE),
    ("docs/how-to/monitors.md", r"accepts (\d+) pings a minute", MAX_PINGS_PER_MINUTE),
    ("docs/how-to/monitors.md", r"The first ([\d,]+) bytes of a POST", MAX_BODY_BYTES),
    ("docs/how-to/monitors.md", r"the newest (\d+) values", MAX_RECENT_VALUES),
    ("docs/how-to/monitors.md", r"after (\d+ seconds) at the latest", MAX_SECONDS),
    ("docs/how-to/monitors.md", r"at most (\w+) tests at a time", MAX_SANDBOXES),
    ("docs/explanation/architecture.md", r"The newest (\d+) values", MAX_RECENT_VALUES),
    (
        "docs/explanation/architecture.md",
        r"due in the (\w+ minutes)",
        claimer._CLAIM_WINDOW_SECONDS,
    ),
    ("docs/explanation/alerting.md", r"more than (\d+ minutes)", heartbeat._MAX_GAP_SECONDS),
    ("docs/explanation/alerting.md", r"after (\d+ seconds)", attempts._FIRST_DELAY.total_seconds()),
    ("docs/explanation/alerting.md", r"up to (\w+ hour)", attempts._MAX_DELAY.total_seconds()),
    ("docs/reference/admin.md", r"the last (\d+ kB) of its output", MAX_SHOWN),
    ("docs/reference/admin.md", r"at most ([\d,]+) lines", MAX_LINES),
    ("docs/reference/probes.md", r"at most (\d+) characters", MAX_MESSAGE),
    ("docs/reference/probes.md", r"more than ([\d,]+) files", MAX_FILES),
    ("docs/reference/probes.md", r"A response may have (\d+ MiB)", MAX_BODY),
    ("docs/reference/schedules.md", r"more than (\d+) characters", MAX_LENGTH),
    ("docs/reference/schedules.md", r"COUNT is at most ([\d,]+)", MAX_COUNT),
]


@pytest.mark.parametrize(("page", "pattern", "value"), STATEMENTS)
def test_limit_is_that_of_the_code(page: str, pattern: str, value: float) -> None:
    match = re.search(pattern, (REPO / page).read_text())
    assert match, f"{page} no longer says {pattern}"
    assert read_number(match[1]) == value


def read_number(text: str) -> float:
    number, _, unit = text.replace(",", "").partition(" ")
    return (WORDS.get(number.lower()) or float(number)) * UNITS[unit]


@pytest.mark.parametrize("page", sorted((DOCS / "explanation").glob("*.md")), ids=lambda p: p.stem)
def test_measured_times_are_on_pages_that_name_the_command(page: Path) -> None:
    """A time in milli- or microseconds comes from a machine."""
    text = page.read_text()
    assert not re.search(r"\d (?:ms|µs)\b", text) or "`make bench`" in text
