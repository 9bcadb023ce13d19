"""When a scheduler claims, and what it does when the database rejects a claim.

The claim itself, by which a due job gets its owner, is in ``claims``.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial

from django.db import DatabaseError, InterfaceError

from chroniker import __version__
from chroniker.conf import conf
from chroniker.db.clock import boottime
from chroniker.db.schema import refuse_newer_schema
from chroniker.db.transactions import is_outage, is_row_locked, run_transaction
from chroniker.enums import BlockedReason
from chroniker.logs import log_context

from .candidates import ClaimOptions, due_state_ids
from .claims import ClaimResult, block_state, claim, locked_states, new_token
from .leases import Leases
from .reaper import adopt_orphan
from .tick_clock import TickClock

logger = logging.getLogger(__name__)

_CLAIM_SECONDS = 0.05
"""Claims are at least this far apart, unless three quarters of the host's capacity are free."""
_CLAIM_WINDOW_SECONDS = 600
"""How long after its start a tick still claims jobs that have become due since. A tick that never
ended would run old code for ever."""
_POLL_SECONDS = 0.5
"""How far apart claims are while no run ends."""


@dataclass(slots=True)
class ClaimBatch:
    """What one call of :meth:`Claimer.claim` has claimed."""

    result: ClaimResult = field(default_factory=ClaimResult)
    sent: float = 0.0
    """When the leases were requested, by CLOCK_BOOTTIME, seconds."""


class Claimer:
    """Claims due jobs for one scheduler.

    ``forced``: take each of the jobs in the options once, whether it is due or not, and nothing
    else. ``single_tick``: stop claiming what becomes due long after the tick has started.
    """

    def __init__(
        self, clock: TickClock, leases: Leases, *, forced: bool, single_tick: bool
    ) -> None:
        self._clock = clock
        self._leases = leases
        self.forced = forced
        self._single_tick = single_tick
        self._started_at = clock.now()
        self._started_monotonic = time.monotonic()
        self._claimed_at = 0.0
        self._pending_token = ""
        """The token of a claim that may or may not have been committed."""
        self.wanted = False
        """Whether there may be something to claim."""
        self._capacity_freed = False
        self.unconfirmed = False
        """Whether the last claim may have been committed although its reply was lost."""
        self.finished = False
        """Whether all forced jobs were claimed that can be; nothing else is to be started."""
        self._forced_jobs: set[int] = set()
        """Primary keys of the forced jobs that were claimed."""

    def start_tick(self) -> None:
        """Begin a tick: only jobs that become due soon after this moment are claimed in it."""
        self._started_at = self._clock.now()

    def note_free_capacity(self) -> None:
        """A run has ended."""
        self.wanted = self._capacity_freed = True

    def should_claim(self, now: float, *, nearly_idle: bool) -> bool:
        """Whether to claim at ``now`` (CLOCK_MONOTONIC).

        ``nearly_idle``: three quarters of the capacity are free.
        """
        if not (self.wanted or self.unconfirmed) or self.finished:
            return False
        if self._capacity_freed and nearly_idle:
            return True
        pause = _CLAIM_SECONDS if self._capacity_freed else _POLL_SECONDS
        return now - self._claimed_at >= pause

    def claim(self, options: ClaimOptions) -> ClaimBatch:
        """Claim what is due. Raises DatabaseError or InterfaceError if that fails.

        After an outage the next call repeats the claim with the same token: the states that carry
        the token are ours, whether or not the first attempt was committed.
        """
        if self.forced and options.only is not None:
            options = replace(options, only=options.only - self._forced_jobs)
        token = self._pending_token = self._pending_token or new_token(force=self.forced)
        sent = boottime()
        now = self._clock.now()
        horizon = now
        elapsed = time.monotonic() - self._started_monotonic
        if self._single_tick and elapsed > _CLAIM_WINDOW_SECONDS:
            horizon = self._started_at
        self.unconfirmed = True
        try:
            result = self._claim_safely(options, horizon, now, token)
        except (DatabaseError, InterfaceError) as error:
            self.unconfirmed = is_outage(error)
            self._leases.acquire_if_unknown(token, sent)
            raise
        self._pending_token, self.unconfirmed = "", False
        self._claimed_at = time.monotonic()
        self._capacity_freed = False
        self.wanted = bool(result.started)
        if self.forced:
            self._forced_jobs |= {item.job.pk for item in result.started}
            left = (options.only or frozenset()) - self._forced_jobs
            self.forced = self.wanted = bool(left) and result.at_capacity
            self.finished = not self.forced
        for item in result.started:
            self._leases.acquire(item.token, sent)
        return ClaimBatch(result, sent)

    def give_up_lost_claim(self) -> None:
        """Stop repeating an old claim: if it was granted, others have recorded it as lost."""
        if self.unconfirmed and self._leases.lost_for_long(self._pending_token):
            self.unconfirmed, self._pending_token = False, ""

    def _claim_safely(
        self, options: ClaimOptions, horizon: datetime, now: datetime, token: str
    ) -> ClaimResult:
        """Claim all jobs at once or, if the database rejects one of them, one by one."""
        forced = self.forced
        try:
            return run_transaction(lambda: claim(options, horizon, now, token, force=forced))
        except Exception as error:  # also one of a driver, or of a receiver of the site
            if is_row_locked(error):
                logger.warning(
                    "A claim waited too long for a lock; claiming the jobs one by one",
                    extra=log_context(host=options.host),
                )
            elif is_outage(error):
                raise
            else:
                refuse_newer_schema(__version__)
                logger.exception(
                    "A claim failed; claiming the jobs one by one",
                    extra=log_context(host=options.host),
                )
        locked = run_transaction(partial(locked_states, due_state_ids(options, horizon)))
        result = ClaimResult()
        give_up_at = time.monotonic() + conf.LEASE_SECONDS / 6
        keys = due_state_ids(options, horizon)
        for key in keys:
            if time.monotonic() > give_up_at:
                break  # the others are claimed later: there are leases to renew
            if key in locked:
                continue
            alone = replace(options, only_states=frozenset([key]))
            try:
                one = run_transaction(
                    partial(claim, alone, horizon, now, new_token(force=forced), force=forced),
                    attempts=2,
                )
            except Exception as error:
                if is_row_locked(error):
                    continue
                if is_outage(error):
                    break  # what was claimed must be started; the others are claimed later
                _isolate_state(key, error, now)
            else:
                result.started += one.started
                result.missed += one.missed
        result.at_capacity = bool(result.started) and len(keys) == options.max_parallel
        return result


def _isolate_state(key: int, error: Exception, now: datetime) -> None:
    """Keep a state that cannot be claimed from delaying the others."""
    try:
        if not run_transaction(partial(adopt_orphan, key)):
            detail = f"The database rejected the start of the job: {error}"
            if not isinstance(error, DatabaseError):
                detail = f"The start of the job cannot be recorded: {error!r}"
            run_transaction(partial(block_state, key, BlockedReason.COMMAND, detail, now))
    except Exception:
        # Not raised: the others must be started.
        logger.exception("State %s could not be changed", key, extra=log_context())
