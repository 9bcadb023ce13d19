"""Checks the guarantees on a recorded history; a pure function.

It sees the jobs' own journal, an audit of the table of runs that the database's triggers kept (each
row as it was after each change, in order), the states' counters at the end, and scrapes of the
metrics over time. It queries nothing else.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.faults.history import SECOND, History, JobFacts, RunFacts, StateFacts
from tests.faults.streaks import failed_slots_in_a_row

THAW_SECONDS = 1.0
"""How long two instances may overlap after the thaw of a whole host."""
_CLOCK_SECONDS = 0.02
"""The uncertainty of the times of signals and locks."""
EARLY_SECONDS = 0.25
"""How much earlier than its slot a run may begin: a busy machine reads clocks late."""
ENDED = ("succeeded", "failed", "timed_out", "stopped", "interrupted", "lost")
_FAILURE_SERIES = ("chroniker_job_failures_total", "chroniker_job_missed_runs_total")
REASONS = {"failed": "error", "timed_out": "timeout", "stopped": "stopped", "lost": "lost"}


@dataclass(frozen=True, slots=True)
class Violation:
    """A guarantee that did not hold."""

    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


def check(history: History) -> list[Violation]:
    """All violations; empty if every guarantee held."""
    runs = {change.after.run: change.after for change in history.changes}
    return [
        *_check_overlaps(history),
        *_check_slots(history, runs),
        *_check_ends(history, runs),
        *_check_counters(history, runs),
        *_check_scrapes(history),
        *_check_run_log(history, runs),
        *_check_causes(history, runs),
        *_check_queries(history),
        *_check_deploys(history, runs),
        *_check_hosts(history),
        *(Violation("stale write", f"output of run {run} after its end")
          for run in history.late_output),
        *(Violation("stuck", text) for text in history.stuck),
        *(Violation("leftover", text) for text in history.leftovers),
        *(Violation("uniqueness", text) for text in history.accepted_duplicates),
        *(Violation("session", text) for text in history.left_settings),
    ]  # fmt: skip


# --- two at a time --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Overlap:
    """Two instances of a job at the same time."""

    job: str
    run: int
    holder: dict[str, Any]
    begin: float
    end: float
    """CLOCK_BOOTTIME."""
    seconds: float
    """The time in which both could run."""
    after_thaw: bool
    """Whether the freeze of a whole host made it possible."""


def overlaps(journal: list[dict[str, Any]]) -> Iterator[Overlap]:
    """Each overlap that jobs recorded, without the time in which one of them was frozen."""
    frozen = _freezes(journal)
    over: dict[int, float] = {}
    for entry in journal:
        if entry["what"] in ("overlap_over", "end"):
            run = entry["run"]
            over[run] = min(entry["t"], over.get(run, entry["t"]))
    last = max((entry["t"] for entry in journal), default=0.0)
    for entry in journal:
        if entry["what"] != "overlap":
            continue
        holder, begin = entry["holder"], entry["t"]
        end = over.get(entry["run"], last)
        spans = frozen.get(holder.get("host", ""), []) + frozen.get(entry["host"], [])
        still = sum(max(0.0, min(end, b) - max(begin, a)) for a, b in merged_spans(spans))
        after_thaw = any(a <= end and b >= begin - THAW_SECONDS for a, b in spans)
        seconds = end - begin - still
        yield Overlap(entry["job"], entry["run"], holder, begin, end, seconds, after_thaw)


def _freezes(journal: list[dict[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """By host, the times in which the whole host was frozen."""
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    open_: dict[str, float] = {}
    for entry in journal:
        if entry["what"] == "host_frozen":
            open_[entry["host"]] = entry["t"]
        elif entry["what"] == "host_thawed" and entry["host"] in open_:
            found[entry["host"]].append((open_.pop(entry["host"]), entry["t"]))
    for host, begin in open_.items():
        found[host].append((begin, float("inf")))
    return found


def merged_spans(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Spans of time without those that are covered by others."""
    merged: list[tuple[float, float]] = []
    for begin, end in sorted(spans):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return merged


def _check_overlaps(history: History) -> Iterator[Violation]:
    for overlap in overlaps(history.journal):
        allowed = THAW_SECONDS + _CLOCK_SECONDS if overlap.after_thaw else 0.0
        if overlap.after_thaw:  # the warden that has to kill the old one needs a CPU
            begin, end = overlap.begin - THAW_SECONDS, overlap.end
            stalls = merged_spans((at, at + seconds) for at, seconds in history.stalls)
            allowed += sum(max(0.0, min(end, b) - max(begin, a)) for a, b in stalls)
        if overlap.seconds > allowed or not overlap.after_thaw:
            yield Violation(
                "overlap",
                f"run {overlap.run} of {overlap.job} and {overlap.holder} for "
                f"{overlap.seconds:.3f} s",
            )


# --- slots ----------------------------------------------------------------------------------


def _check_slots(history: History, runs: dict[int, RunFacts]) -> Iterator[Violation]:
    by_state: dict[tuple[int, str], list[RunFacts]] = defaultdict(list)
    for run in runs.values():
        by_state[run.job, run.host].append(run)
    jobs = {job.key: job for job in history.jobs}
    for state in history.states:
        job = jobs.get(state.job)
        if job is None or job.period is None or state.next_slot is None:
            continue
        yield from _check_slots_of(job, state, by_state[state.job, state.host])


def _check_slots_of(job: JobFacts, state: StateFacts, runs: list[RunFacts]) -> Iterator[Violation]:
    assert job.period is not None and state.next_slot is not None
    period = job.period
    name = f"{job.name}@{state.host}" if state.host else job.name
    outcomes: Counter[int] = Counter()
    attempts: dict[int, list[RunFacts]] = defaultdict(list)
    for run in runs:
        if run.status == "missed":
            for number in range(run.missed_slots):
                outcomes[run.slot + number * period] += 1
        elif run.trigger in ("schedule", "retry"):
            attempts[run.slot].append(run)
    for slot in attempts:
        outcomes[slot] += 1
    first = min(outcomes, default=state.next_slot)
    if job.created is not None:
        first = job.created + period
    expected = range(first, state.next_slot, period)
    for slot in expected:
        if outcomes[slot] != 1:
            yield Violation("slot", f"{name}: slot {slot} has {outcomes[slot]} outcomes")
    for slot in outcomes:
        if slot not in expected:
            yield Violation("slot", f"{name}: {slot} is not one of its slots")
    for slot, tried in attempts.items():
        numbers = sorted(run.attempt for run in tried)
        interrupted = sum(run.status == "interrupted" for run in tried)
        allowed = job.max_retries + 1 + interrupted
        if numbers != list(range(1, len(tried) + 1)) or len(tried) > allowed:
            yield Violation("slot", f"{name}: slot {slot} has the attempts {numbers}")
        for run in tried:
            if run.trigger != _expected_trigger(run, tried):
                yield Violation("slot", f"{name}: attempt {run.attempt} by {run.trigger}")
            if run.attempt < len(tried) and run.status == "succeeded":
                yield Violation("slot", f"{name}: slot {slot} was tried again after a success")


def _expected_trigger(run: RunFacts, tried: list[RunFacts]) -> str:
    """The first attempt is by schedule, the restart of an interrupted run by that run's trigger."""
    before = [other for other in tried if other.attempt == run.attempt - 1]
    if not before:
        return "schedule"
    return before[0].trigger if before[0].status == "interrupted" else "retry"


def slots_of(history: History) -> int:
    """The number of slots that passed and have an outcome."""
    number = 0
    runs = {change.after.run: change.after for change in history.changes}
    seen: set[tuple[int, str, int]] = set()
    for run in runs.values():
        if run.status == "missed":
            number += run.missed_slots
        elif run.trigger in ("schedule", "retry"):
            seen.add((run.job, run.host, run.slot))
    return number + len(seen)


# --- ends -----------------------------------------------------------------------------------


def _check_ends(history: History, runs: dict[int, RunFacts]) -> Iterator[Violation]:
    """The end of a run is written once and never changed."""
    ended: set[int] = set()
    known: dict[int, RunFacts] = {}
    for change in history.changes:
        after = change.after
        if change.before == "running" and after.status in ENDED:
            if after.run in ended:
                yield Violation("stale write", f"run {after.run} ended twice")
            ended.add(after.run)
        elif change.before in ENDED:
            yield Violation(
                "stale write", f"run {after.run} was {change.before} and became {after.status}"
            )
        elif change.before == "missed" and after.missed_slots < known[after.run].missed_slots:
            yield Violation("stale write", f"the missed row {after.run} shrank")
        known[after.run] = after
    pruned = {job.key for job in history.jobs if job.pruned}
    for key, run in runs.items():
        if key not in history.rows:
            if run.job not in pruned:
                yield Violation("stale write", f"run {key} vanished")
        elif history.rows[key] != run.status:
            yield Violation("stale write", f"run {key} is {history.rows[key]}, not {run.status}")


# --- counters -------------------------------------------------------------------------------


def _check_counters(history: History, runs: dict[int, RunFacts]) -> Iterator[Violation]:
    names = {job.key: job.name for job in history.jobs}
    expected: dict[tuple[int, str], Counter[str]] = defaultdict(Counter)
    sums: dict[tuple[int, str], dict[str, float]] = defaultdict(lambda: defaultdict(float))
    last: dict[tuple[int, str], str] = {}
    interrupted = {
        (run.job, run.host, run.slot, run.attempt)
        for run in runs.values()
        if run.status == "interrupted"
    }
    retries = {job.key: job.max_retries for job in history.jobs}
    in_a_row = failed_slots_in_a_row(history.changes, retries, interrupted)
    for change in history.changes:
        run = change.after
        state = run.job, run.host
        if change.before is None and run.status == "running":
            again = (*state, run.slot, run.attempt - 1) in interrupted
            expected[state]["retries_total"] += run.trigger == "retry" and not again
            # That of a run on a worker is known when the worker takes it.
            started = bool(runs[run.run].ran_on)
            expected[state]["start_lag_count"] += (
                run.trigger == "schedule" and not again and started
            )
        if change.before == "running" and run.status in ENDED:
            expected[state]["runs_total"] += 1
            expected[state]["interrupted_total"] += run.status == "interrupted"
            if run.status in REASONS:
                expected[state][f"failures_{REASONS[run.status]}"] += 1
            expected[state]["duration_count"] += run.seconds is not None
            sums[state]["duration_seconds_sum"] += run.seconds or 0.0
            sums[state]["cpu_seconds_total"] += run.cpu_seconds or 0.0
            last[state] = run.status
    for run in runs.values():
        if run.status == "missed":
            expected[run.job, run.host][f"missed_{run.missed_reason}"] += run.missed_slots
    for state_facts in history.states:
        key = state_facts.job, state_facts.host
        name = names.get(state_facts.job, str(state_facts.job))
        for counter, value in state_facts.counters.items():
            if counter in ("duration_seconds_sum", "cpu_seconds_total"):
                wrong = abs(value - sums[key][counter]) > 0.001 * max(1, abs(value))
                should: float = sums[key][counter]
            else:
                should = expected[key][counter]
                wrong = value != should
            if wrong:
                yield Violation("drift", f"{name}: {counter} is {value}, should be {should}")
        if key in last and state_facts.last_status != last[key]:
            yield Violation(
                "drift", f"{name}: last status {state_facts.last_status}, not {last[key]}"
            )
        if state_facts.consecutive_failures != in_a_row[key]:
            yield Violation(
                "drift",
                f"{name}: {state_facts.consecutive_failures} consecutive failures, should be "
                f"{in_a_row[key]}",
            )
        current = state_facts.current_run
        running = current is not None and runs.get(current)
        if state_facts.leased and not (running and running.status == "running"):
            yield Violation("stuck", f"{name} is leased, but its run ({current}) is not running")


def _check_scrapes(history: History) -> Iterator[Violation]:
    before: dict[str, float] = {}
    for number, scrape in enumerate(history.scrapes):
        for series, value in scrape.items():
            if value < before.get(series, 0.0):
                yield Violation(
                    "decrease",
                    f"{series} fell from {before[series]} to {value} in scrape {number}",
                )
            before[series] = value
        missing = sorted(before.keys() - scrape.keys())
        if history.live_hosts is not None:  # the series of a host go with it
            missing = [series for series in missing if "host=" not in series]
        if missing:
            yield Violation("decrease", f"{missing[0]} vanished in scrape {number}")


# --- the jobs' own records ------------------------------------------------------------------


def _check_run_log(history: History, runs: dict[int, RunFacts]) -> Iterator[Violation]:
    begun: Counter[int] = Counter()
    ended: dict[int, bool] = {}
    names = {job.key: job.name for job in history.jobs}
    for entry in history.journal:
        if entry["what"] == "begin":
            begun[entry["run"]] += 1
            run = runs.get(entry["run"])
            if run is None:
                yield Violation("journal", f"{entry['job']} began as run {entry['run']}: no row")
            elif names.get(run.job) != entry["job"]:
                yield Violation("journal", f"run {run.run} was of {entry['job']}")
            elif (
                history.boot is not None
                and (early := (run.slot - history.boot) / SECOND - entry["t"]) > EARLY_SECONDS
            ):
                yield Violation("early", f"run {run.run} began {early:.3f} s before its slot")
            elif run.status == "missed":
                yield Violation("journal", f"run {run.run} began and is recorded as missed")
        elif entry["what"] == "end":
            ended[entry["run"]] = entry["ok"]
        elif entry["what"] == "tick_failed":
            yield Violation("tick", f"a tick of {entry['host']} failed: {entry['error']}")
    for key, times in begun.items():
        if times > 1:
            yield Violation("journal", f"run {key} began {times} times")
    books = {job.key for job in history.jobs if job.is_recorded}
    for key, run in runs.items():
        if run.job not in books:
            continue
        if run.status == "succeeded" and ended.get(key) is not True:
            yield Violation(
                "journal", f"run {key} is recorded as succeeded, but the job did not record success"
            )
        if run.status == "failed" and run.signal is None:
            if ended.get(key):
                yield Violation("journal", f"run {key} succeeded and is recorded as failed")
            if run.exit_code is None and begun[key]:
                yield Violation("journal", f"run {key} began and is recorded as never started")


def _check_causes(history: History, runs: dict[int, RunFacts]) -> Iterator[Violation]:
    """A run is lost only because of an injected fault."""
    if history.faults is None:
        return
    names = {job.key: job.name for job in history.jobs}
    for run in runs.values():
        if run.status != "lost" or run.started is None or run.ended is None:
            continue
        if not any(
            fault.begin <= run.ended and fault.end >= run.started
            for fault in history.faults
            if fault.host in ("", run.ran_on)
        ):
            yield Violation(
                "cause",
                f"run {run.run} of {names.get(run.job)} on {run.ran_on} was lost for no reason "
                f"({run.started}-{run.ended}): {run.error}",
            )


def _check_queries(history: History) -> Iterator[Violation]:
    """A job's own query fails only because of an injected fault, and meets no foreign setting."""
    for entry in history.journal:
        if entry["what"] == "setting_left":
            yield Violation("session", f"{entry['where']} of {entry['host']} has {entry['value']}")
        if entry["what"] != "query_failed" or history.faults is None or history.boot is None:
            continue
        at = history.boot + int(entry["t"] * SECOND)
        near = (
            fault for fault in history.faults
            if fault.host in ("", entry["host"]) and fault.kind != "stall"
        )  # fmt: skip
        if not any(fault.begin <= at <= fault.end for fault in near):
            yield Violation("query", f"{entry['job']} on {entry['host']}: {entry['error']}")


# --- what must not happen without a fault -------------------------------------------------------


def _check_deploys(history: History, runs: dict[int, RunFacts]) -> Iterator[Violation]:
    """Restarts in order cost no slot, count no failure and open no incident."""
    if not history.deploys:
        return
    jobs = {job.key: job for job in history.jobs}
    attempts = {(run.job, run.host, run.slot, run.attempt, run.trigger) for run in runs.values()}
    for run in runs.values():
        job = jobs.get(run.job)
        name = job.name if job else str(run.job)
        if run.status not in ("succeeded", "interrupted"):
            yield Violation("deploy", f"run {run.run} of {name} is {run.status}: {run.error}")
        again = (run.job, run.host, run.slot, run.attempt + 1, run.trigger)
        restarts = run.status == "interrupted" and job and job.restart_interrupted
        if restarts and again not in attempts:
            yield Violation("deploy", f"run {run.run} of {name} was not started again")
    for state in history.states:
        for counter, value in state.counters.items():
            if counter.startswith(("failures_", "missed_")) and value:
                yield Violation("deploy", f"job {state.job}: {counter} is {value}")
        if state.consecutive_failures:
            yield Violation("deploy", f"job {state.job} counts as failing")
    for number, scrape in enumerate(history.scrapes):
        for series, value in scrape.items():
            if value and series.startswith(_FAILURE_SERIES):
                yield Violation("deploy", f"scrape {number}: {series} is {value}")
    for text in history.incidents:
        yield Violation("deploy", f"an incident was opened: {text}")


def _check_hosts(history: History) -> Iterator[Violation]:
    """Only the hosts that live are on the page and in the lists."""
    if history.live_hosts is None:
        return
    for where, found in (
        ("on the page", history.hosts_on_page), ("in the lists", history.hosts_in_lists)
    ):  # fmt: skip
        if sorted(found) != sorted(history.live_hosts):
            yield Violation(
                "host", f"{where} are {sorted(found)}, alive are {sorted(history.live_hosts)}"
            )


# --- figures --------------------------------------------------------------------------------


def figures(history: History) -> dict[str, Any]:
    """Statistics of the history."""
    runs = {change.after.run: change.after for change in history.changes}
    found = list(overlaps(history.journal))
    return {
        "slots": slots_of(history),
        "runs": sum(run.status != "missed" for run in runs.values()),
        "statuses": dict(Counter(run.status for run in runs.values())),
        "losses": dict(Counter(run.error[:60] for run in runs.values() if run.status == "lost")),
        "missed_slots": sum(run.missed_slots for run in runs.values()),
        "begun": sum(entry["what"] == "begin" for entry in history.journal),
        "scrapes": len(history.scrapes),
        "overlaps_after_thaw": sum(overlap.after_thaw for overlap in found),
        "longest_overlap": round(max((overlap.seconds for overlap in found), default=0.0), 3),
        "interrupted_and_started_again": _restarted(runs),
        "queries_of_jobs_failed": sum(e["what"] == "query_failed" for e in history.journal),
        "stalls": len(history.stalls),
        "stalled_seconds": round(stalled_seconds(history.stalls), 1),
    }


def stalled_seconds(stalls: list[tuple[float, float]], begin: float = 0.0) -> float:
    """For how long anything was stalled since ``begin``."""
    spans = merged_spans((at, at + seconds) for at, seconds in stalls)
    return sum(max(0.0, b - max(begin, a)) for a, b in spans)


def _restarted(runs: dict[int, RunFacts]) -> int:
    """How many interrupted runs have a next attempt."""
    attempts = {(run.job, run.host, run.slot, run.attempt) for run in runs.values()}
    return sum(
        run.status == "interrupted" and (run.job, run.host, run.slot, run.attempt + 1) in attempts
        for run in runs.values()
    )
