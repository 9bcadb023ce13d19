"""Fields of cron expressions, and refusals that help."""

from __future__ import annotations

import pytest

from chroniker.exceptions import ScheduleError
from chroniker.schedules import parse
from chroniker.schedules.fields import DAY_OF_WEEK, MINUTE, expand_field


@pytest.mark.parametrize(
    ("text", "help_text"),
    [
        ("CRON_TZ=Europe/Berlin 0 3 * * *", "set the time zone field to Europe/Berlin"),
        ("TZ=UTC 0 3 * * *", "set the time zone field to UTC"),
        ("0 0 * * 5L", "Write L5. Accepted: L5, the last Friday."),
        ("0 0 * * 7l", "Write L7. Accepted: L7, the last Sunday."),
        ("0 0 31 2 *", "February never has a 31st."),
        ("0 0 30,31 2 *", "February never has a 30th."),
        ("0 0 31 4,6 *", "April and June never have a 31st."),
        ("0 3 * * * /usr/bin/backup --all", "command in its own field"),
        ("@daily /usr/bin/backup", "command in its own field"),
        ("0 3 * * * root /x", "command in its own field"),
        ("0 0 1 1 * 0 2020", "never fires after"),
    ],
)
def test_refusal_says_what_to_do(text: str, help_text: str) -> None:
    with pytest.raises(ScheduleError) as caught:
        parse(text, zone="UTC")
    assert help_text in caught.value.reason


@pytest.mark.parametrize("text", ["0 0 31 2 MON", "0 0 29 2 *", "0 0 31 2,3 *", "0 0 * * L5",
                                  "0 3 * * * 0 2099", "* * * * * */10"])  # fmt: skip
def test_what_is_possible_is_not_refused(text: str) -> None:
    assert parse(text, zone="UTC").explain()


@pytest.mark.parametrize(
    ("index", "text", "numbers"),
    [
        (MINUTE, "*/61", [0]),
        (MINUTE, "59/15", [59]),
        (MINUTE, "5/15", [5, 20, 35, 50]),
        (MINUTE, "1-9/4,3", [1, 3, 5, 9]),
        (DAY_OF_WEEK, "0-7", [0, 1, 2, 3, 4, 5, 6, 7]),
        (MINUTE, "50-10", None),
        (MINUTE, "h", None),
        (MINUTE, "60", None),
        (MINUTE, "*/0", None),
    ],
)
def test_plain_fields_are_expanded(index: int, text: str, numbers: list[int] | None) -> None:
    assert expand_field(index, text) == numbers
