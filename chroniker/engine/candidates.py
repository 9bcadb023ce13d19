"""Which due states a host claims, and the token that makes them its own."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, Exists, F, OuterRef, Q

from chroniker.conf import conf
from chroniker.db.alias import database
from chroniker.db.clock import database_now_plus
from chroniker.extensions import batch_names
from chroniker.models import JobDependency, JobState
from chroniker.models.job import is_remote
from chroniker.models.state import QUEUED, JobStateQuerySet


@dataclass(frozen=True, slots=True)
class QueueRoom:
    """How many runs may be handed over to the workers of a queue."""

    executor: str
    queue: str
    jobs: Q
    """The jobs whose runs go there, for a query of states."""
    room: int


ALONE = "alone-"
"""How the tokens of claims begin whose runs have a process each, also those of batches."""
_Candidate = tuple[int, datetime, int]
"""In the order of claims: the negative priority, when it was due, and the primary key."""


@dataclass(frozen=True, slots=True)
class ClaimOptions:
    """Who claims, and within which limits."""

    host: str
    owner: str
    max_parallel: int
    batch_room: int | None = None
    """How many runs that share a process may be claimed; None: no runs share one."""
    rooms: tuple[QueueRoom, ...] = ()
    """The queues to which runs may be published."""
    only: frozenset[int] | None = None
    """Primary keys of jobs; None: all."""
    only_states: frozenset[int] | None = None
    """Primary keys of states; None: all."""


def shareable_batches() -> list[str]:
    """The runners whose runs share processes on this site.

    None where each run is to have a fresh interpreter, or a lock of its own.
    """
    if conf.START_METHOD == "spawn" or conf.CHECK_LOCK_FILE:
        return []
    return batch_names()


def _claimable(
    options: ClaimOptions, horizon: datetime, now: datetime, *, force: bool
) -> JobStateQuerySet:
    """What a claim at ``now`` would take of what was due at ``horizon``, in this order.

    Jobs that a maintenance window pauses are never included, even if a person requests a run.
    """
    wanted = JobState.objects.for_host(options.host).unpaused(now)
    if options.only is not None:
        wanted = wanted.filter(job__in=options.only)
    if options.only_states is not None:
        wanted = wanted.filter(pk__in=options.only_states)
    if force:
        free = wanted.filter(lease_token__isnull=True)
    else:
        free = wanted.due(horizon).unblocked(horizon)
    return free.order_by("-job__priority", "due_at", "pk")


def due_state_ids(options: ClaimOptions, now: datetime) -> list[int]:
    """Primary keys of the states that would be claimed now."""
    targets = ~is_remote("job__")
    for target in options.rooms:
        targets |= target.jobs
    wanted = _claimable(options, now, now, force=options.only is not None).filter(targets)
    return list(
        wanted.values_list("pk", flat=True)[: options.max_parallel + (options.batch_room or 0)]
    )


def stamp_token(
    options: ClaimOptions, horizon: datetime, now: datetime, token: str, *, force: bool
) -> bool:
    """Put the token on as many states as the host may run; return whether it is at capacity then.

    The update's own conditions decide. A batch takes one place, however many runs it has, and
    batches together take at most half of the places.
    """
    here = ~is_remote("job__")
    shared = Q(job__batch__in=shareable_batches()) & here
    in_batch = shared & ~Q(lease_token__startswith=ALONE)
    leased = JobState.objects.leased_on(options.host).aggregate(
        single=Count("pk", filter=~in_batch),
        batches=Count("lease_token", distinct=True, filter=in_batch),
    )
    places = options.max_parallel - leased["single"] - leased["batches"]
    single: list[_Candidate] = []
    batch: list[_Candidate] = []
    may_share = not force and leased["batches"] < max(1, options.max_parallel // 2)
    if may_share and places > 0 and options.batch_room:
        batch = _find_free(options, horizon, now, options.batch_room, shared)
    if places > 0:
        which = here if force or options.batch_room is None else here & ~shared
        single = _find_free(options, horizon, now, places, which, force=force)
    if batch and len(single) == places:  # the last place is that of whoever comes first
        if batch[0] < single[-1]:
            single.pop()
        else:
            batch = []
    places -= len(single) + bool(batch)
    free = JobState.objects.all() if force else JobState.objects.due(horizon)
    owner = {"lease_host": options.host, "lease_owner": options.owner}
    _stamp(free, batch + single, lease_token=token, **owner)
    for target in options.rooms:
        found = _find_free(options, horizon, now, target.room, target.jobs, force=force)
        owner = {"lease_host": "", "lease_owner": f"{QUEUED}{target.executor}"}
        _stamp(free, found, lease_token=order_token(token), **owner)
    return bool(places <= 0)


def order_token(token: str) -> str:
    """The token of a claim's remote runs: the renewal of the others must not extend it."""
    return f"{token}-q"


def _stamp(free: JobStateQuerySet, found: list[_Candidate], **owner: str) -> None:
    keys = [candidate[-1] for candidate in found]
    if keys:
        free.filter(pk__in=keys, lease_token__isnull=True).update(
            fence=F("fence") + 1,
            lease_expires_at=database_now_plus(conf.LEASE_SECONDS),
            stop_requested_at=None,
            **owner,
        )


def _find_free(
    options: ClaimOptions,
    horizon: datetime,
    now: datetime,
    limit: int,
    which: Q,
    *,
    force: bool = False,
) -> list[_Candidate]:
    """Find, and lock, up to ``limit`` states that may be claimed."""
    candidates = _claimable(options, horizon, now, force=force).filter(which)
    if _lock_rows():
        candidates = candidates.select_for_update(
            skip_locked=True,
            of=("self",) if database().features.has_select_for_update_of else (),
        )
    waits = Exists(JobDependency.objects.filter(downstream=OuterRef("job")))
    rows = candidates.annotate(waits=waits).values_list("waits", "job__priority", "due_at", "pk")
    found = list(rows[:limit])
    keys = [key for *_, key in found]
    waiting = any(waits_for_others for waits_for_others, *_ in found)
    if waiting and not force and _lock_rows():
        keys = _lock_upstreams(keys)
        keys = list(
            JobState.objects.filter(pk__in=keys).unblocked(horizon).values_list("pk", flat=True)
        )
    free = set(keys)
    return [(-priority, due_at, key) for _, priority, due_at, key in found if key in free]


def _lock_rows() -> bool:
    wanted = conf.SELECT_FOR_UPDATE
    can = database().features.has_select_for_update_skip_locked
    return can if wanted is None else wanted and can


def _lock_upstreams(keys: list[int]) -> list[int]:
    """Lock the states of what the candidates ``keys`` wait for until the claim is committed.

    Returns the candidates without those that wait for a state that another transaction has locked.
    """
    edges = list(
        JobDependency.objects.filter(
            downstream__states__in=keys, upstream__states__isnull=False
        ).values_list("downstream__states", "upstream__states")
    )
    locked = JobState.objects.lock({upstream for _, upstream in edges})
    blocked = {downstream for downstream, upstream in edges if upstream in locked}
    return [key for key in keys if key not in blocked]
