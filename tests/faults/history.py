"""Everything that is recorded in an experiment: what the checker reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

SECOND = 1_000_000
"""Moments of the database are whole microseconds."""


@dataclass(frozen=True, slots=True)
class JobFacts:
    """The definition of a job."""

    key: int
    name: str
    period: int | None
    """Between two slots, microseconds; None: it has no schedule."""
    created: int | None
    """The slots count from this time; None: from the first one that is seen."""
    max_retries: int = 0
    is_recorded: bool = True
    pruned: bool = False
    restart_interrupted: bool = True


@dataclass(frozen=True, slots=True)
class RunFacts:
    """A row of the runs table after a change."""

    run: int
    job: int
    host: str
    slot: int
    attempt: int
    trigger: str
    status: str
    missed_slots: int = 0
    missed_reason: str = ""
    ran_on: str = ""
    exit_code: int | None = None
    signal: int | None = None
    seconds: float | None = None
    cpu_seconds: float | None = None
    started: int | None = None
    ended: int | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class RunChange:
    """A change recorded by a trigger: the status before (None: inserted) and the row after."""

    before: str | None
    after: RunFacts


@dataclass(frozen=True, slots=True)
class StateFacts:
    """The state of a job at the end."""

    job: int
    host: str
    next_slot: int | None
    counters: dict[str, float]
    last_status: str = ""
    consecutive_failures: int = 0
    leased: bool = False
    current_run: int | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """An injected fault that may lose runs: its times and its host."""

    kind: str
    begin: int
    end: int
    host: str = ""
    """Empty: to everybody."""


@dataclass(slots=True)
class History:
    """Everything recorded in an experiment."""

    jobs: list[JobFacts] = field(default_factory=list)
    changes: list[RunChange] = field(default_factory=list)
    rows: dict[int, str] = field(default_factory=dict)
    """Run to status, of the rows that are there at the end."""
    states: list[StateFacts] = field(default_factory=list)
    journal: list[dict[str, Any]] = field(default_factory=list)
    scrapes: list[dict[str, float]] = field(default_factory=list)
    """Counters by series, in the order of time."""
    late_output: list[int] = field(default_factory=list)
    """Runs of which output was stored after their end."""
    stuck: list[str] = field(default_factory=list)
    """Runs that no living process owned long after healing."""
    leftovers: list[str] = field(default_factory=list)
    """Processes that should have been dead."""
    accepted_duplicates: list[str] = field(default_factory=list)
    """Rows that the database accepted but must reject."""
    boot: int | None = None
    """The database's clock at CLOCK_BOOTTIME 0, microseconds; None: starts are not timed."""
    faults: list[Fault] | None = None
    """None: whether a loss had a cause is not asked."""
    left_settings: list[str] = field(default_factory=list)
    """Settings of the scheduler that others found on a connection."""
    incidents: list[str] = field(default_factory=list)
    deploys: int = 0
    """How often hosts were restarted in order; if they were, nothing else may have happened."""
    live_hosts: list[str] | None = None
    """The hosts that live at the end; None: whether the others are gone is not asked."""
    hosts_on_page: list[str] = field(default_factory=list)
    """Values of the label ``host`` on the metrics page at the end."""
    hosts_in_lists: list[str] = field(default_factory=list)
    """The hosts at the end that are not retired."""
    stalls: list[tuple[float, float]] = field(default_factory=list)
    """Begin (CLOCK_BOOTTIME) and seconds of times in which the machine was too busy."""
