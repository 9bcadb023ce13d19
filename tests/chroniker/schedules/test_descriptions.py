"""Schedules as sentences, and warnings about ambiguous ones."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from chroniker.schedules import parse


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "*/15 8-18 * * MON-FRI",
            "Every 15 minutes, between 08:00 and 18:59, Monday through Friday (Europe/Berlin)",
        ),
        ("30 2 * * *", "At 02:30 (Europe/Berlin)"),
        ("@daily", "At 00:00 (Europe/Berlin)"),
        ("0 0 13 * FRI", "At 00:00, on day 13 of the month, or on Friday (Europe/Berlin)"),
        ("0 0 */2 * MON", "At 00:00, every 2 days, only on Monday (Europe/Berlin)"),
        ("0 0 * * 1#2,L5", "At 00:00, on the second Monday and the last Friday of the month"
         " (Europe/Berlin)"),
        ("0 0 1 * TUE#1", "At 00:00, on day 1 of the month, or on the first Tuesday of the month"
         " (Europe/Berlin)"),
        ("RRULE:FREQ=YEARLY;BYMONTH=3,10;BYDAY=-1SU", "Every year on the last Sunday in March and"
         " October at 00:00 (Europe/Berlin)"),
        ("RRULE:FREQ=MONTHLY;BYMONTHDAY=1,-2;BYDAY=MO,TU;BYSETPOS=1;UNTIL=20270101", "Every month"
         " on Monday and Tuesday on the second to last day and day 1 at 00:00 (only the first of"
         " these), until 2027-01-01 23:59 (Europe/Berlin)"),
        ("RRULE:FREQ=YEARLY;BYYEARDAY=100,-21", "Every year on the 21st to last day and day 100 of"
         " the year at 00:00 (Europe/Berlin)"),
        ("RRULE:FREQ=YEARLY;BYWEEKNO=20;BYDAY=MO;BYSECOND=5", "Every year on Monday in week 20 at"
         " 00:00:05 (Europe/Berlin)"),
        ("DTSTART:20270104T080000 RRULE:FREQ=WEEKLY;INTERVAL=2;COUNT=1", "Every 2 weeks on Monday"
         " at 08:00, from 2027-01-04 08:00, once (Europe/Berlin)"),
        ("RRULE:FREQ=HOURLY EXDATE:20270101T000000", "Every hour, except on 1 date"
         " (Europe/Berlin)"),
        ("0 0 * * *,3", "At 00:00 (Europe/Berlin)"),
        ("0 0 5-L * *", "At 00:00, between day 5 and 31 of the month (Europe/Berlin)"),
        ("30 2 * * * 15 2030", "At 02:30:15, only in 2030 (Europe/Berlin)"),
        ("RRULE:FREQ=WEEKLY;INTERVAL=2;BYDAY=MO", "Every 2 weeks on Monday at 00:00"
         " (Europe/Berlin)"),
        ("RRULE:FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=9,17", "Every month on the last Friday at 09:00"
         " and 17:00 (Europe/Berlin)"),
        ("DTSTART:20260101T090000 RRULE:FREQ=DAILY;COUNT=400", "Every day at 09:00, from"
         " 2026-01-01 09:00, 400 times (Europe/Berlin)"),
        ("RRULE:FREQ=MINUTELY;INTERVAL=5;BYHOUR=8,9", "Every 5 minutes at hour 8 and 9"
         " (Europe/Berlin)"),
        ("59/15 * * * *", "At 59 minutes past the hour (Europe/Berlin)"),
        ("*/61 * * * *", "Every hour (Europe/Berlin)"),
        ("0 0 * * 0-7", "At 00:00 (Europe/Berlin)"),
        ("0-7 * * * *", "Minutes 0 through 7 past the hour (Europe/Berlin)"),
        ("*/10 * * * * */10", "Every 10 seconds, during minutes 0, 10, 20, 30, 40 and 50"
         " (Europe/Berlin)"),
        ("5 3 * * * */30", "Every 30 seconds, between 03:00 and 03:59, during minute 5"
         " (Europe/Berlin)"),
        ("", "Only manually, or after a job that it depends on"),
    ],
)  # fmt: skip
def test_descriptions(text: str, sentence: str) -> None:
    assert parse(text, zone="Europe/Berlin").explain() == sentence


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("0 0 13 * FRI", "either of them"),
        ("0 0 31 * *", "without a day 31"),
        ("*/45 * * * *", "not a multiple of 45"),
        ("0 */5 * * *", "not a multiple of 5"),
        ("*/61 * * * *", "only minute 0 matches. Use `@every 61m`"),
        ("0 */25 * * *", "only hour 0 matches. Use `@every 25h`"),
        ("* * * * * */10", "once per tick"),
        ("@every 5s", "once per tick"),
        ("RRULE:FREQ=HOURLY", "only in the first pass"),
    ],
)
def test_ambiguous_schedule_gives_warning(text: str, warning: str) -> None:
    assert any(warning in said for said in parse(text, zone="UTC").warnings())


@pytest.mark.parametrize(
    "text", ["", "@daily", "*/15 8-18 * * MON-FRI", "0 0 L * *", "@every 90m", "RRULE:FREQ=DAILY",
             "0 0 31 1,3 *", "0 0 */2 * MON", "H/15 * * * *", "0 0 30 * * 0"],
)  # fmt: skip
def test_unambiguous_schedule_gives_no_warning(text: str) -> None:
    found = parse(text, zone="UTC", name="x").warnings()
    assert found == [] or (text == "0 0 30 * * 0" and "day 30" in found[0])


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("0 0 29 2 * 0 2044", "It is not due before 2044-02-29, in 17 years."),
        ("0 0 1 1 * 0 2028", "It is not due before 2028-01-01, in 1 year."),
        ("0 0 1 1 *", None),
        ("@every 45s", None),
        ("", None),
    ],
)
def test_schedule_that_is_not_due_for_years_gives_warning(text: str, warning: str | None) -> None:
    now = datetime(2026, 11, 26, tzinfo=UTC)
    found = parse(text, zone="UTC").warnings_at(now)
    assert [said for said in found if "not due before" in said] == ([warning] if warning else [])
