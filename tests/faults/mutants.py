"""Deliberate defects, one at a time: the checker has to report each of them.

A mutant is a small edit of the source, applied in the memory of the ticks of the simulated hosts;
no file is changed. An edit whose text is not found fails, so that mutants follow the code.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.faults.deployment import Deployment
from tests.faults.experiment import Experiment
from tests.faults.site import connection
from tests.faults.worker_mutants import WORKER_MUTANTS

Edit = tuple[str, str, str]
"""``module:function`` or ``module:Class.method`` in chroniker, a text of its source (whose first
line is not indented), and the text that replaces it."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """A defect, the experiment that exposes it, and the violation that the checker reports."""

    name: str
    meaning: str
    scenario: str
    backends: tuple[str, ...]
    expected: frozenset[str]
    """Kinds of violation, of which at least one must be seen."""
    edits: tuple[Edit, ...] = ()
    patch_database: Callable[[], Any] | None = None
    """A context manager on the database instead of an edit."""
    options: dict[str, Any] = field(default_factory=dict)
    deployment: Deployment = Deployment.DIRECT


@contextmanager
def without_uniqueness() -> Iterator[None]:
    """Remove the constraints on runs and states."""
    from chroniker.models import JobState, Run

    gone = [
        (model, constraint)
        for model in (Run, JobState)
        for constraint in model._meta.constraints
        if type(constraint).__name__ == "UniqueConstraint"
    ]
    with connection.schema_editor() as editor:
        for model, constraint in gone:
            editor.remove_constraint(model, constraint)
    try:
        yield
    finally:
        from tests.faults import site

        site.empty()
        with connection.schema_editor() as editor:
            for model, constraint in gone:
                editor.add_constraint(model, constraint)


_NOW = "import datetime\n    return '%s::timestamptz', (datetime.datetime.now(datetime.UTC),)"
MUTANTS = (
    Mutant(
        "check_then_act",
        "a claim reads free states and takes them without checking again",
        "together",
        ("postgres",),
        frozenset({"overlap", "journal", "stale write", "drift", "slot"}),
        (
            (
                "engine.candidates:_stamp",
                "free.filter(pk__in=keys, lease_token__isnull=True)",
                "__import__('time').sleep(0.05)\n        JobState.objects.filter(pk__in=keys)",
            ),
            ("engine.candidates:_lock_rows", "return can", "return False and can"),
        ),
    ),
    Mutant(
        "finish_without_token",
        "the end of a run is written even if another tick owns the job",
        "frozen_ticks",
        ("postgres",),
        frozenset({"drift", "stale write", "overlap", "stuck"}),
        (
            (
                "engine.completion:end_run",
                "filter(pk=ended.state.pk, lease_token=ended.token)",
                "filter(pk=ended.state.pk)",
            ),
        ),
    ),
    Mutant(
        "finish_repeated",
        "an end whose COMMIT got no reply is written again without its token",
        "lost_commits",
        ("mariadb",),
        frozenset({"drift"}),
        (
            (
                "engine.completion:end_run",
                "filter(pk=ended.state.pk, lease_token=ended.token)",
                "filter(pk=ended.state.pk)",
            ),
        ),
    ),
    Mutant(
        "count_ignored",
        "the end of a run is written although its token was lost",
        "frozen_ticks",
        ("postgres",),
        frozenset({"stale write"}),
        (("engine.completion:end_run", "return False\n    Run", "pass\n    Run"),),
    ),
    Mutant(
        "recounted",
        "counters are computed from the rows of runs, although old rows are deleted",
        "pruned",
        ("postgres",),
        frozenset({"drift", "decrease"}),
        (
            (
                "engine.completion:state_changes",
                'add("runs_total", 1)',
                'Run.objects.filter(job=job, duration_seconds__isnull=False).count() + 1',
            ),
        ),
    ),
    Mutant(
        "host_clock",
        "leases use the clocks of the hosts",
        "skewed",
        ("postgres",),
        frozenset({"overlap", "cause", "journal", "stale write", "early"}),
        (
            ("db.clock:DatabaseNow.as_postgresql", 'return "clock_timestamp()", ()', _NOW),
            ("db.clock:StatementNow.as_postgresql", 'return "statement_timestamp()", ()', _NOW),
        ),
    ),
    Mutant(
        "no_uniqueness",
        "the database accepts two states of a job and two running runs",
        "together",
        ("postgres",),
        frozenset({"uniqueness"}),
        patch_database=without_uniqueness,
    ),
    Mutant(
        "lost_is_success",
        "a run whose warden was killed counts as a success",
        "killed_wardens",
        ("postgres", "sqlite"),
        frozenset({"journal"}),
        (
            (
                "processes.running_child:RunningChild.outcome",
                "Outcome(RunStatus.LOST, self._masked(error, self.status.note))",
                "Outcome(RunStatus.SUCCEEDED)",
            ),
        ),
    ),
    Mutant(
        "deaf_to_leases",
        "a warden lets its run continue after the end of the lease",
        "frozen_ticks",
        ("postgres",),
        frozenset({"overlap"}),
        (
            (
                "processes.warden:_Warden._wait",
                "self.lease_deadline is not None and now >= self.lease_deadline",
                "False",
            ),
        ),
    ),
    Mutant(
        "greedy_reaper",
        "leases are taken over before they end",
        "calm",
        ("postgres",),
        frozenset({"cause", "overlap", "journal"}),
        (
            (
                "models.state:JobStateQuerySet.stale",
                "lease_token__isnull=False, lease_expires_at__lt=StatementNow()",
                "lease_token__isnull=False",
            ),
            (
                "engine.completion:end_run",
                "mine = mine.filter(lease_expires_at__lt=StatementNow())",
                "pass",
            ),
        ),
    ),
    Mutant(
        "orphans_live",
        "a warden does not notice that its scheduler is dead",
        "killed_ticks",
        ("sqlite",),  # elsewhere the end of the lease still kills the run in time
        frozenset({"leftover", "overlap"}),
        (
            (
                "processes.warden:_Warden._read_control",
                "self.orphaned = True\n        self._terminate(",
                "return (0,\n        ",
            ),
        ),
    ),
    Mutant(
        "takes_from_the_living",
        "on SQLite an expired lease is taken from an owner that is alive",
        "long_writer",
        ("sqlite",),
        frozenset({"cause", "overlap", "journal", "stale write"}),
        (("engine.reaper:_may_take_over", "owner = state.lease_owner", "return True"),),
    ),
    Mutant(
        "lock_not_asked",
        "the kernel is not asked whether the owner of a lock is dead",
        "calm",
        ("sqlite",),
        frozenset({"cause", "overlap", "journal"}),
        (
            (
                "processes.locks:owner_is_dead",
                "if not lock.acquire(wait=False, create=False):",
                "if False:",
            ),
        ),
    ),
    Mutant(
        "missed_forgotten",
        "missed slots leave no row",
        "downtime",
        ("postgres",),
        frozenset({"slot"}),
        (("engine.claims:_add_to_known", "new.append(run)", "pass"),),
    ),
    Mutant(
        "pool_left_open",
        "the scheduler uses the site's pool and leaves it open when it forks; jobs use its sockets",
        "calm",
        ("postgres",),
        frozenset({"tick", "query", "stuck", "cause", "journal", "leftover"}),
        (
            ("db.connections:without_pool", 'options.get("pool")', "False"),
            ("db.connections:before_fork", "close_pools()", "pass"),
            ("db.connections:forget_inherited_connections", "if _has_pool(connection):", "if 0:"),
        ),
        deployment=Deployment.POOL,
    ),
    Mutant(
        "setting_left",
        "the limit for locks is set for the session, and stays on a connection of PgBouncer",
        "calm",
        ("postgres",),
        frozenset({"session"}),
        (("db.lock_timeout:_set_for_transaction", "SET LOCAL", "SET"),),
        deployment=Deployment.PGBOUNCER,
    ),
    Mutant(
        "reads_from_replica",
        "the scheduler reads what it has written from a replica",
        "calm",
        ("postgres",),
        frozenset({"stuck", "tick", "slot", "journal", "query"}),
        (
            (
                "db.querysets:PrimaryQuerySet.db",
                "router.db_for_write(",
                "(router.db_for_write if self._for_write else router.db_for_read)(",
            ),
        ),
        options={"seconds": 8},
        deployment=Deployment.REPLICA,
    ),
    Mutant(
        "transaction_on_default",
        "transactions are opened on the alias `default`",
        "calm",
        ("postgres", "sqlite"),
        frozenset({"stuck", "tick"}),
        (("db.alias:atomic", "using=database_alias()", ""),),
        options={"seconds": 8},
        deployment=Deployment.ALIAS,
    ),
    Mutant(
        "interrupted_and_forgotten",
        "a run that a deploy has interrupted is not started again",
        "rolling_deploy",
        ("postgres",),
        frozenset({"deploy"}),
        (("engine.completion:_restarts", "ended.job.restart_interrupted", "False"),),
        options={"times": 2},
    ),
    Mutant(
        "hosts_stay",
        "a host that has ended is not retired",
        "pods",
        ("postgres",),
        frozenset({"host"}),
        (("engine.retirement:_retire_one", "if not run_transaction(", "if True or ("),),
        options={"number": 8},
    ),
    *(
        Mutant(scenario="workers", backends=("postgres",), **facts) for facts in WORKER_MUTANTS
    ),
)  # fmt: skip


def named(name: str) -> Mutant:
    return next(mutant for mutant in MUTANTS if mutant.name == name)


@contextmanager
def applied(name: str, experiment: Experiment) -> Iterator[None]:
    """Apply a defect to the ticks of the fake hosts for this block."""
    mutant = named(name)

    def prepare() -> None:
        for edit in mutant.edits:
            apply(edit)

    experiment.prepare, experiment.mutant = prepare, name
    if mutant.patch_database:
        with mutant.patch_database():
            yield
    else:
        yield


def apply(edit: Edit) -> None:
    """Replace a function in this process. Raises LookupError if its source has another text."""
    where, old, new = edit
    module_name, _, attribute = where.partition(":")
    path = attribute.split(".")
    module = importlib.import_module(f"chroniker.{module_name}")
    owner: Any = module
    for part in path[:-1]:
        owner = getattr(owner, part)
    function = inspect.getattr_static(owner, path[-1])
    code: Any = function.fget if isinstance(function, property) else function
    source = textwrap.dedent(inspect.getsource(code))
    if source.count(old) != 1:
        raise LookupError(f"{where} has {source.count(old)} times {old!r}:\n{source}")
    space: dict[str, Any] = {}
    exec(compile(source.replace(old, new), module.__file__ or "", "exec"), vars(module), space)
    changed = space[path[-1]]
    if "super()" in source:  # outside its class there is no cell for super()
        raise LookupError(f"{where} uses super()")
    for other in list(sys.modules.values()):
        if getattr(other, "__name__", "").startswith("chroniker"):
            for key, value in list(vars(other).items()):
                if value is function:
                    setattr(other, key, changed)
    setattr(owner, path[-1], changed)
