"""Subjects, read at three in the morning."""

from __future__ import annotations

import pytest

from chroniker.alerting.wording import bundle_title, title

FACTS = {"severity": "warning", "summary": "OSError: disk full", "resolution": "A run succeeded."}


@pytest.mark.parametrize(
    ("event", "kind", "facts", "words"),
    [
        ("opened", "failing", {}, "Warning: import failed: OSError: disk full"),
        ("worsened", "failing", {"severity": "critical"},
         "Now critical: import failed: OSError: disk full"),
        ("reminder", "failing", {}, "Still open, warning: import failed: OSError: disk full"),
        ("resolved", "failing", {}, "Recovered: import. A run succeeded."),
        ("closed", "failing", {"resolution": "The job was disabled."},
         "Closed: import. The job was disabled."),
        ("flapping", "failing", {},
         "Flapping, no more messages for now: import failed: OSError: disk full"),
        ("opened", "condition", {"summary": "37 orders (> 20)"},
         "Warning: 37 orders (> 20), import"),
        ("opened", "overdue", {"summary": "Due at 12:00."},
         "Warning: import is overdue. Due at 12:00."),
        ("opened", "blocked", {"summary": "It waits for x."},
         "Warning: import is blocked. It waits for x."),
        ("opened", "host", {"summary": "It is gone."},
         "Warning: Host import is silent. It is gone."),
        ("resolved", "host", {"resolution": ""}, "Recovered: Host import."),
    ],
)  # fmt: skip
def test_subject_says_what_is_wrong(
    event: str, kind: str, facts: dict[str, str], words: str
) -> None:
    assert title(event, kind, "import", FACTS | facts) == words


def test_long_and_hostile_summaries_are_one_short_line() -> None:
    subject = title("opened", "failing", "import", FACTS | {"summary": "a\nb" + "x" * 1000})
    assert "\n" not in subject and len(subject) < 200


def test_value_stands_before_the_name_and_its_detail_after_it() -> None:
    facts = FACTS | {"summary": "37 orders (> 20): see 1041"}
    assert title("opened", "condition", "New orders", facts) == (
        "Warning: 37 orders (> 20), New orders: see 1041"
    )


def test_long_lists_name_the_first_only() -> None:
    assert bundle_title("opened", 5, list("abcde")) == "5 new incidents: a, b, c and 2 more"


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ("opened", "2 new incidents: a, b"),
        ("worsened", "2 incidents are worse: a, b"),
        ("reminder", "2 incidents are still open: a, b"),
        ("flapping", "2 incidents are flapping: a, b"),
        ("resolved", "2 incidents have recovered: a, b"),
        ("closed", "2 incidents are closed: a, b"),
    ],
)
def test_subject_of_a_bundle_names_what_it_lists(event: str, words: str) -> None:
    assert bundle_title(event, 2, ["a", "b"]) == words
