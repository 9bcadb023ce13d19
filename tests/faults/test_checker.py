"""The checker: one handmade history for each violation of a guarantee."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.faults.checker import check, figures, overlaps, slots_of
from tests.faults.history import (
    SECOND,
    Fault,
    History,
    JobFacts,
    RunChange,
    RunFacts,
    StateFacts,
)

JOB = JobFacts(key=1, name="import", period=SECOND, created=0, max_retries=1)
RUN = RunFacts(
    run=1, job=1, host="", slot=SECOND, attempt=1, trigger="schedule", status="running",
    ran_on="h1", started=SECOND,
)  # fmt: skip
DONE = replace(RUN, status="succeeded", seconds=0.5, cpu_seconds=0.1, exit_code=0, ended=2 * SECOND)
MISSED = RunFacts(
    run=2, job=1, host="", slot=2 * SECOND, attempt=0, trigger="schedule", status="missed",
    missed_slots=3, missed_reason="downtime",
)  # fmt: skip
COUNTERS = {
    "runs_total": 1, "failures_error": 0, "failures_timeout": 0, "failures_stopped": 0,
    "failures_lost": 0,
    "interrupted_total": 0, "missed_overlap": 0, "missed_downtime": 3, "missed_deadline": 0,
    "missed_paused": 0, "missed_dependency": 0,
    "retries_total": 0, "duration_count": 1, "start_lag_count": 1, "duration_seconds_sum": 0.5,
    "cpu_seconds_total": 0.1,
}  # fmt: skip
STATE = StateFacts(
    job=1, host="", next_slot=5 * SECOND, counters=dict(COUNTERS), last_status="succeeded"
)


def entry(what: str, t: float, run: int = 1, host: str = "h1", **facts: Any) -> dict[str, Any]:
    return {"what": what, "t": t, "run": run, "job": "import", "host": host, "pid": 7, **facts}


def good() -> History:
    """One run, then three missed slots during downtime."""
    return History(
        jobs=[JOB],
        changes=[RunChange(None, RUN), RunChange("running", DONE), RunChange(None, MISSED)],
        rows={1: "succeeded", 2: "missed"},
        states=[STATE],
        journal=[entry("begin", 11.0), entry("end", 11.5, ok=True)],
        scrapes=[{"runs": 0.0}, {"runs": 1.0}],
        boot=-10 * SECOND,
        faults=[],
    )


def test_good_history_has_no_violation() -> None:
    assert check(good()) == []
    assert slots_of(good()) == 4
    assert figures(good())["statuses"] == {"succeeded": 1, "missed": 1}


def state(**facts: Any) -> Callable[[History], None]:
    return lambda history: history.states.__setitem__(0, replace(STATE, **facts))


def counters(**values: float) -> Callable[[History], None]:
    return state(counters={**COUNTERS, **values})


def changed(number: int, **facts: Any) -> Callable[[History], None]:
    def change(history: History) -> None:
        before = history.changes[number]
        history.changes[number] = RunChange(before.before, replace(before.after, **facts))
        for each in history.changes:
            history.rows[each.after.run] = each.after.status

    return change


def added(*changes: RunChange) -> Callable[[History], None]:
    def add(history: History) -> None:
        history.changes += changes
        for change in changes:
            history.rows[change.after.run] = change.after.status

    return add


def journaled(*entries: dict[str, Any]) -> Callable[[History], None]:
    return lambda history: history.journal.extend(entries)


def without(what: str) -> Callable[[History], None]:
    def drop(history: History) -> None:
        history.journal = [each for each in history.journal if each["what"] != what]

    return drop


AGAIN = replace(RUN, run=3, attempt=2, trigger="retry", status="lost", ended=3 * SECOND)
OTHER = replace(RUN, run=3, slot=7 * SECOND)


@pytest.mark.parametrize(
    ("breakage", "kind", "words"),
    [
        (journaled(entry("overlap", 11.2, run=3, holder={"host": "h1"}),
                   entry("end", 11.3, run=3, ok=True)), "overlap", "0.100 s"),
        (changed(2, missed_slots=2), "slot", "has 0 outcomes"),
        (changed(2, missed_slots=4), "slot", "is not one of its slots"),
        (changed(2, slot=SECOND, missed_slots=4), "slot", "has 2 outcomes"),
        (added(RunChange(None, AGAIN)), "slot", "tried again after a success"),
        (added(RunChange(None, replace(AGAIN, attempt=3))), "slot", "the attempts [1, 3]"),
        (
            added(RunChange(None, replace(AGAIN, trigger="schedule"))),
            "slot",
            "attempt 2 by schedule",
        ),
        (added(RunChange(None, OTHER)), "slot", "is not one of its slots"),
        (added(RunChange("succeeded", replace(DONE, status="lost"))), "stale write", "became lost"),
        (added(RunChange("running", DONE)), "stale write", "ended twice"),
        (added(RunChange("missed", replace(MISSED, missed_slots=1))), "stale write", "shrank"),
        (lambda history: history.rows.pop(1), "stale write", "vanished"),
        (lambda history: history.rows.update({1: "lost"}), "stale write", "is lost"),
        (lambda history: history.late_output.append(1), "stale write", "after its end"),
        (counters(runs_total=2), "drift", "runs_total is 2"),
        (counters(missed_downtime=2), "drift", "missed_downtime"),
        (counters(duration_seconds_sum=0.6), "drift", "duration_seconds_sum"),
        (state(last_status="lost"), "drift", "last status lost"),
        (state(consecutive_failures=1), "drift", "1 consecutive failures"),
        (state(leased=True, current_run=1), "stuck", "is leased, but its run"),
        (lambda history: history.scrapes.append({"runs": 0.0}), "decrease", "fell from 1.0"),
        (lambda history: history.scrapes.append({}), "decrease", "vanished"),
        (without("begin"), "", ""),
        (without("end"), "journal", "did not record success"),
        (journaled(entry("begin", 11.1)), "journal", "began 2 times"),
        (journaled(entry("begin", 11.1, run=9)), "journal", "no row"),
        (journaled(entry("begin", 12.1, run=2)), "journal", "recorded as missed"),
        (lambda history: history.journal[0].update(job="other"), "journal", "was of other"),
        (lambda history: history.journal[0].update(t=10.5), "early", "0.500 s before its slot"),
        (changed(1, status="failed", exit_code=1), "journal", "and is recorded as failed"),
        (changed(1, status="failed", exit_code=None), "journal", "recorded as never started"),
        (changed(1, status="lost"), "cause", "for no reason"),
        (journaled(entry("tick_failed", 12.0, error="boom")), "tick", "boom"),
        (lambda history: history.stuck.append("x"), "stuck", "x"),
        (lambda history: history.leftovers.append("x"), "leftover", "x"),
        (lambda history: history.accepted_duplicates.append("x"), "uniqueness", "x"),
        (lambda history: history.left_settings.append("x"), "session", "x"),
        (journaled(entry("setting_left", 11.2, where="a tick", value="2s")), "session", "has 2s"),
        (journaled(entry("query_failed", 11.2, error="boom")), "query", "boom"),
        (lambda history: setattr(history, "live_hosts", ["h1"]), "host", "on the page are []"),
    ],
)  # fmt: skip
def test_each_violation_is_reported(
    breakage: Callable[[History], Any], kind: str, words: str
) -> None:
    history = good()
    breakage(history)
    found = check(history)
    if not kind:  # a job that was killed before its first record leaves none
        assert found == []
        return
    assert any(each.kind == kind and words in each.text for each in found), found


def test_loss_with_a_cause_on_its_host_is_not_a_violation() -> None:
    history = good()
    changed(1, status="lost")(history)
    history.faults = [Fault("kill_tick", SECOND, 2 * SECOND, "h2")]
    assert any(each.kind == "cause" for each in check(history))
    history.faults = [Fault("kill_tick", SECOND, 2 * SECOND, "h1")]
    assert not any(each.kind == "cause" for each in check(history))


def test_failed_query_with_a_cause_is_not_a_violation() -> None:
    history = good()
    journaled(entry("query_failed", 11.2, error="boom"))(history)
    for host, broken in (("h2", {"query"}), ("h1", set())):
        history.faults = [Fault("cut", SECOND, 2 * SECOND, host)]
        assert {each.kind for each in check(history)} == broken


CUT_SHORT = replace(RUN, status="interrupted", seconds=0.5, cpu_seconds=0.1, ended=2 * SECOND)
STARTED_AGAIN = replace(DONE, run=3, attempt=2)


def deployed() -> History:
    """A run was interrupted by a deploy, and its restart has succeeded."""
    return History(
        jobs=[JOB],
        changes=[
            RunChange(None, RUN), RunChange("running", CUT_SHORT),
            RunChange(None, replace(RUN, run=3, attempt=2)), RunChange("running", STARTED_AGAIN),
        ],
        rows={1: "interrupted", 3: "succeeded"},
        states=[
            replace(STATE, next_slot=2 * SECOND, counters={
                **COUNTERS, "runs_total": 2, "interrupted_total": 1, "missed_downtime": 0,
                "duration_count": 2, "duration_seconds_sum": 1.0, "cpu_seconds_total": 0.2,
            }),
        ],
        journal=[
            entry("begin", 11.0), entry("begin", 12.0, run=3), entry("end", 12.5, run=3, ok=True)
        ],
        scrapes=[{"chroniker_job_failures_total{job_name=import,reason=error}": 0.0}],
        boot=-10 * SECOND,
        faults=[],
        deploys=1,
    )  # fmt: skip


def test_good_deploy_has_no_violation() -> None:
    assert check(deployed()) == []
    assert figures(deployed())["interrupted_and_started_again"] == 1


@pytest.mark.parametrize(
    ("breakage", "words"),
    [
        (lambda history: history.changes.__delitem__(slice(2, 4)), "was not started again"),
        (lambda history: history.changes.append(RunChange(None, MISSED)), "is missed"),
        (lambda history: history.states[0].counters.update(failures_lost=1), "failures_lost is 1"),
        (lambda history: history.states[0].counters.update(missed_overlap=1), "missed_overlap is"),
        (
            lambda history: history.scrapes.append(
                {"chroniker_job_failures_total{job_name=import,reason=error}": 1.0}
            ),
            "scrape 1",
        ),
        (lambda history: history.incidents.append("import failing"), "import failing"),
    ],
)
def test_what_a_deploy_must_not_do_is_reported(
    breakage: Callable[[History], Any], words: str
) -> None:
    history = deployed()
    breakage(history)
    found = [each for each in check(history) if each.kind == "deploy"]
    assert any(words in each.text for each in found), check(history)


def test_job_that_is_not_to_be_restarted_is_no_violation_of_a_deploy() -> None:
    history = deployed()
    history.jobs = [replace(JOB, restart_interrupted=False)]
    del history.changes[2:]
    assert not [each for each in check(history) if each.kind == "deploy"]


def test_hosts_that_live_are_on_the_page_and_in_the_lists() -> None:
    history = good()
    history.live_hosts, history.hosts_on_page = ["h1"], ["h1"]
    assert ["in the lists" in str(each) for each in check(history)] == [True]
    history.hosts_in_lists = ["h1"]
    assert check(history) == []


def frozen(begin: float, end: float, host: str = "h1") -> list[dict[str, Any]]:
    return [
        {"what": "host_frozen", "t": begin, "host": host},
        {"what": "host_thawed", "t": end, "host": host},
    ]


@pytest.mark.parametrize(
    ("thaw", "end", "host", "allowed"),
    [
        (15.0, 15.5, "h1", True),  # half a second after the thaw
        (15.0, 16.5, "h1", False),  # a second and a half after it
        (15.0, 15.5, "h9", False),  # another host was frozen
    ],
)
def test_overlap_is_allowed_for_a_second_after_the_host_thaws(
    thaw: float, end: float, host: str, allowed: bool
) -> None:
    journal = [
        *frozen(10.0, thaw, host),
        entry("overlap", 14.0, run=3, host="h2", holder={"host": "h1", "run": 1}),
        entry("overlap_over", end, run=3, host="h2"),
    ]
    found = [each for each in check(History(journal=journal)) if each.kind == "overlap"]
    assert bool(found) is not allowed
    if host == "h1":
        (overlap,) = overlaps(journal)
        assert overlap.seconds == pytest.approx(end - thaw)


def test_time_in_which_the_machine_was_too_busy_does_not_count_after_a_thaw() -> None:
    journal = [
        *frozen(10.0, 15.0),
        entry("overlap", 14.0, run=3, host="h2", holder={"host": "h1", "run": 1}),
        entry("overlap_over", 16.5, run=3, host="h2"),
    ]
    for stalls, kinds in (
        ([], ["overlap"]),
        ([(20.0, 5.0)], ["overlap"]),
        ([(15.1, 0.8), (15.2, 0.7)], []),
    ):
        assert [each.kind for each in check(History(journal=journal, stalls=stalls))] == kinds


def test_last_value_of_missed_slots_counts() -> None:
    history = good()
    added(RunChange("missed", replace(MISSED, missed_slots=4)))(history)
    state(next_slot=6 * SECOND, counters={**COUNTERS, "missed_downtime": 4})(history)
    assert check(history) == []
