"""The leases that one scheduler holds."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable

from chroniker.conf import conf
from chroniker.db.alias import database
from chroniker.db.backoff import Backoff
from chroniker.db.clock import boottime
from chroniker.db.transactions import run_transaction
from chroniker.executors.base import Executor
from chroniker.logs import log_context
from chroniker.models import JobState

from .active_runs import ActiveRuns, lease_tokens

logger = logging.getLogger(__name__)


def lease_deadline(sent: float) -> float | None:
    """When a warden ends its run by itself: shortly before the lease requested at ``sent`` ends.

    Both are CLOCK_BOOTTIME seconds. None on SQLite, where all hosts are one machine and the kernel
    knows which owners are alive.
    """
    if database().vendor == "sqlite":
        return None
    lease = conf.LEASE_SECONDS
    return sent + lease - max(0.1 * lease, 0.2)


class Leases:
    """When each lease runs out, and its renewal.

    Expiry times are CLOCK_BOOTTIME seconds, counted from before the request was sent: the database
    ends a lease no earlier.
    """

    def __init__(self) -> None:
        self.backoff = Backoff()
        """Separate from that of claims: a claim that waits for a lock must not delay a renewal."""
        self._expires_at: dict[str, float] = {}
        self._renewed_at = 0.0

    def acquire(self, token: str, sent: float) -> None:
        """Record a lease that was requested at ``sent`` (CLOCK_BOOTTIME)."""
        self._expires_at[token] = sent + conf.LEASE_SECONDS

    def acquire_if_unknown(self, token: str, sent: float) -> None:
        """The same for a lease that may not have been granted; the first request counts."""
        self._expires_at.setdefault(token, sent + conf.LEASE_SECONDS)

    def lost_for_long(self, token: str) -> bool:
        """Whether the lease ran out a whole lease ago, so that others have recorded the loss."""
        now = boottime() - conf.LEASE_SECONDS
        return now > self._expires_at.get(token, now)

    def start_renewing(self) -> None:
        """Count the time to the next renewal from now."""
        self._renewed_at = time.monotonic()

    def renewal_is_due(self, now: float) -> bool:
        """Whether it is time to renew; ``now`` is CLOCK_MONOTONIC."""
        return now - self._renewed_at >= conf.LEASE_RENEW_SECONDS

    def renew(self, active: ActiveRuns, unrecorded: Iterable[str], executor: Executor) -> None:
        """Renew all leases in one statement, and pass the new deadline on to each run.

        ``unrecorded``: tokens of runs that have ended and are not yet recorded. A run that no
        longer holds its lease is abandoned: its processes are ended, and nothing is written. One
        whose state is locked by another transaction keeps the lease that it has.
        """
        tokens = list({*lease_tokens(active), *unrecorded})
        sent = boottime()
        locked = run_transaction(
            lambda: JobState.objects.renew_unlocked(tokens, conf.LEASE_SECONDS)
        )
        self._renewed_at = time.monotonic()
        held = set(JobState.objects.owned_by(tokens).values_list("current_run", flat=True))
        for key, run in active.items():
            if key not in held:
                context = log_context(job=run.claimed.job.name, run=key)
                logger.warning("Run %s lost its lease and is ended", key, extra=context)
                executor.abandon(key)
                continue
            if run.claimed.state.pk in locked:
                continue  # not renewed: another transaction has locked the state
            self._expires_at[run.claimed.token] = sent + conf.LEASE_SECONDS
            if (deadline := lease_deadline(sent)) is not None:
                executor.extend(key, deadline)

    def forget_all_but(self, used: set[str]) -> None:
        """Drop the leases whose token is not in ``used``."""
        self._expires_at = {
            token: expiry for token, expiry in self._expires_at.items() if token in used
        }
