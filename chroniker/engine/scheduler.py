"""One tick, from the heartbeat of its host to the end of the last run that it started."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from django.db import DatabaseError, InterfaceError, connection

from chroniker.alerting import outbox
from chroniker.alerting.incidents import attend, open_overdue
from chroniker.commands import CHECK_MONITOR
from chroniker.conf import conf, runtime_dir
from chroniker.db.backoff import Backoff, describe_error, short_lock_timeout
from chroniker.db.clock import boottime
from chroniker.db.connections import before_fork
from chroniker.db.transactions import is_outage, run_transaction
from chroniker.enums import RunStatus
from chroniker.exceptions import CommandRefused, DatabaseNotReady, HostNotReady
from chroniker.masking import Masker, site_secrets
from chroniker.models import Job, JobState, Run
from chroniker.processes.locks import OwnerLock
from chroniker.processes.output import OutputBatch
from chroniker.processes.supervisor import Child, Outcome, RunRequest, Supervisor
from chroniker.signals import pre_fork, run_finished, run_missed, run_started

from .blocking import explain_blocked
from .claims import (
    ClaimedRun,
    ClaimOptions,
    ClaimResult,
    block_state,
    claim,
    due_state_ids,
    new_token,
)
from .completion import FinishedRun, append_output, end_run, is_recorded, release
from .heartbeat import PendingWork, record_first_tick, record_heartbeat, record_tick_duration
from .launch import build_run_request, lease_deadline
from .output_store import store_progress
from .planning import plan_changed_jobs, plan_for_new_host
from .reaper import adopt_orphan, reap
from .retention import prune_runs

if TYPE_CHECKING:
    from chroniker.alerting.deadman import LifeSign
    from chroniker.alerting.sender import Postman  # imported where there is something to send

logger = logging.getLogger(__name__)

_FLUSH_SECONDS = 1.0
"""How often progress, output and stop requests are looked after while something runs."""
_OUTPUT_SECONDS = 2.0
_CLAIM_SECONDS = 0.05
"""Claims are at least this far apart, unless three quarters of the places are free."""
_CLAIM_WINDOW_SECONDS = 600
"""How long after its beginning a tick still takes what has become due since. A tick that went on
for ever would run the code of the day on which it began."""
_BATCH_SECONDS = 0.03
"""How long an end waits for others before it is written."""
_MAX_REJECTIONS = 3
_POLL_SECONDS = 0.5


@dataclass(slots=True)
class _ActiveRun:
    """A claimed run and its process."""

    claimed: ClaimedRun
    child: Child
    pid_stored: bool = False
    output_at: float = field(default_factory=time.monotonic)


class Scheduler:
    """What a tick does: beat, reap, plan, claim, supervise, finish, tell.

    ``every``: tick again after so many seconds, for ever (``cronserver``). ``only``: primary keys
    of jobs to which it is restricted; ``force``: run those at once, due or not. ``now`` pins the
    moment of the beginning, for tests; otherwise it is the database's clock, on which all hosts
    agree. ``glance``: what the heartbeat of the first tick has just shown.
    """

    def __init__(
        self,
        *,
        every: float | None = None,
        only: frozenset[int] | None = None,
        force: bool = False,
        max_parallel: int | None = None,
        now: datetime | None = None,
        pending_work: PendingWork | None = None,
        on_finished: Callable[[FinishedRun], None] | None = None,
    ) -> None:
        self.host = conf.HOSTNAME
        self.every = every
        self.only = only
        self.force = force
        self.max_parallel = max_parallel
        self.pinned_now = now
        self._pending_work = pending_work
        self.on_finished = on_finished
        self.running: dict[int, _ActiveRun] = {}
        self.unrecorded: list[FinishedRun] = []
        self._supervisor: Supervisor | None = None
        self._owner: OwnerLock | None = None
        self._sender: Postman | None = None
        self._clock, self._clock_read = now or datetime.now(UTC), boottime()
        self._started_at = self._now()
        self._backoff = Backoff()
        self._renewal_backoff = (
            Backoff()
        )  # its own: a claim that waits for a lock must not hold it back
        self._claim_unconfirmed = False
        self._claimed_at = 0.0
        self._first_end_at = 0.0
        self._claim_wanted = False
        self._capacity_freed = False
        self._claiming_finished = False
        """What was asked for by name has been claimed; nothing else is this process's to start."""
        self._flushed_at = 0.0
        self._renewed_at = 0.0
        self._stop_signals = 0
        self._stop_at: float | None = None
        self._lease_ends: dict[str, float] = {}
        self._pending_token = ""
        self._deadman_ping: LifeSign | None = None

    # -- the whole -------------------------------------------------------------------------

    def run(self) -> None:
        """Tick, and stay until everything that it started has ended.

        Raises DatabaseUnready where the first tick fails before it has started anything, and
        HostUnready where there is no safe place for lock files.
        """
        try:
            runtime_dir()
        except OSError as error:
            raise HostNotReady(str(error)) from error
        with self._stop_signal_handlers(), short_lock_timeout():
            try:
                self._started_monotonic = next_tick = time.monotonic()
                failure = self._backoff.attempt(self.tick, log=False)
                if failure and not self._busy:
                    raise DatabaseNotReady(describe_error(failure)) from failure
                while self._busy or (self.every and not self._stop_signals):
                    wait = _BATCH_SECONDS if self.unrecorded else _POLL_SECONDS
                    if self.every:
                        wait = min(wait, next_tick + self.every - time.monotonic())
                    self._poll_once(max(0.0, wait))
                    if self.every and time.monotonic() >= next_tick + self.every:
                        next_tick = max(next_tick + self.every, time.monotonic() - self.every)
                        self._attempt(self.tick)
            finally:
                self._close()
                if self._deadman_ping is not None:
                    self._deadman_ping.wait()

    @property
    def _busy(self) -> bool:
        """Whether something that it began has not ended: a run or its record, a claim, a mail."""
        sending = self._sender is not None and self._sender.busy
        return bool(self.running or self.unrecorded or self._claim_unconfirmed or sending)

    def tick(self) -> None:
        """Look at the database once and start what is due."""
        started = time.monotonic()
        pending_work, self._pending_work = (
            self._pending_work or record_heartbeat(self.host, self.pinned_now),
            None,
        )
        self._clock, self._clock_read = pending_work.clock, pending_work.read_at
        self._started_at = self._now()
        if pending_work.new_host:
            plan_for_new_host(self.host, self._now())
            record_first_tick(self.host)
        lost: list[FinishedRun] = []
        if pending_work.owned or pending_work.stale:
            lost = reap(self.host, self._now(), stale=pending_work.stale)
        try:
            if pending_work.unplanned:
                plan_changed_jobs(self._now())
            if (
                pending_work.due or pending_work.unplanned or self.force
            ) and not pending_work.paused:
                self._claim()
                explain_blocked(self._now(), self.host)
                self._claim_wanted = True
        finally:
            for ended in lost:
                self._announce_finished(ended)
        self._update_incidents(pending_work)
        record_tick_duration(self.host, time.monotonic() - started)
        if self.only is None and conf.DEADMAN_URL:
            self._ping_deadman_url()

    def _ping_deadman_url(self) -> None:
        from chroniker.alerting.deadman import LifeSign

        if self._sender is not None:
            self._attempt(self._sender.turn)  # what is to be sent is forked before the thread
        self._deadman_ping = self._deadman_ping or LifeSign()
        self._deadman_ping.send()

    def _can_fork(self) -> bool:
        """Whether no thread of ours could hold a lock that a child would wait for."""
        return self._deadman_ping is None or not self._deadman_ping.talking

    def _update_incidents(self, pending_work: PendingWork) -> None:
        """After the claim: what has just been started is not overdue."""
        if pending_work.overdue:
            open_overdue(self._now())
        if pending_work.incident_review:
            attend(self._now())
        if pending_work.digest:
            from chroniker.alerting.digests import write_digests

            write_digests(self._now())
        if outbox.hint.take() or pending_work.outbox:
            self._send_notifications()

    def _send_notifications(self) -> None:
        """Let the outbox be emptied, beside everything else."""
        if self._sender is None:
            from chroniker.alerting.sender import Postman

            self._sender = Postman(self._now, self._can_fork, before_fork, self._descriptors)
        self._sender.want()

    def _descriptors(self) -> list[int]:
        """What another process must not hold, or it would hide that this one is dead."""
        mine = self._supervisor.descriptors() if self._supervisor else []
        return mine + ([self._owner.fd] if self._owner else [])

    def _now(self) -> datetime:
        """The database's clock, as it was seen last and went on since.

        Whatever happens to this host's own clock in the meantime.
        """
        return self._clock + timedelta(seconds=boottime() - self._clock_read)

    # -- claiming and starting -------------------------------------------------------------

    def _claim(self) -> None:
        """Take what is due and start it."""
        if self._stop_signals and not self._claim_unconfirmed:
            return
        if self._supervisor is None and not self._can_fork():
            return  # the first run forks the zygote; it is wanted still
        options = ClaimOptions(
            host=self.host,
            owner=self._lease_owner(),
            max_parallel=self._capacity(),
            only=self.only,
        )
        # Kept until it is known to be committed: what bears the token is ours.
        token = self._pending_token = self._pending_token or new_token()
        sent = boottime()
        now = self._now()
        horizon = now
        if not self.every and time.monotonic() - self._started_monotonic > _CLAIM_WINDOW_SECONDS:
            horizon = self._started_at
        self._claim_unconfirmed = True
        try:
            collected = self._claim_safely(options, horizon, now, token)
        except (DatabaseError, InterfaceError) as error:
            self._claim_unconfirmed = is_outage(error)
            self._lease_ends.setdefault(token, sent + conf.LEASE_SECONDS)
            raise
        self._pending_token, self._claim_unconfirmed = "", False
        self._claimed_at = time.monotonic()
        self._capacity_freed = False
        self._claim_wanted = bool(collected.started)
        if self.force:
            self.force, self._claiming_finished = False, True
        if collected.started:
            for item in collected.started:
                self._lease_ends[item.token] = sent + conf.LEASE_SECONDS
            self._start(collected.started, sent)
        for run in collected.missed:
            self._send_signal(run_missed, run, run.job)

    def _claim_safely(
        self, options: ClaimOptions, horizon: datetime, now: datetime, token: str
    ) -> ClaimResult:
        """Claim all at once or, where one of the jobs makes the database refuse, each by itself."""
        try:
            return run_transaction(lambda: claim(options, horizon, now, token, force=self.force))
        except DatabaseError as error:
            if is_outage(error):
                raise
            logger.exception("A claim was refused; trying the jobs one by one")
        collected = ClaimResult()
        for key in due_state_ids(options, horizon):
            alone = replace(options, only_states=frozenset([key]))
            try:
                one = run_transaction(
                    partial(claim, alone, horizon, now, new_token(), force=self.force)
                )
            except DatabaseError as error:
                if is_outage(error):
                    break  # what was taken has to be started; the others are taken later
                self._isolate_state(key, error)
            else:
                collected.started += one.started
                collected.missed += one.missed
        return collected

    def _isolate_state(self, key: int, error: DatabaseError) -> None:
        """A state that cannot be claimed as it is: for a while, or until somebody looks at it."""
        try:
            if not run_transaction(partial(adopt_orphan, key)):
                block_state(key, f"command: the database refused to start it: {error}")
        except (DatabaseError, InterfaceError):
            logger.exception("State %s is left as it is", key)  # others have to be started

    def _capacity(self) -> int:
        """How many runs this host may have at one time, for this claim."""
        return conf.MAX_PARALLEL if self.max_parallel is None else self.max_parallel

    def _lease_owner(self) -> str:
        if self._owner is None:
            try:
                self._owner = OwnerLock(runtime_dir())
            except OSError as error:
                reason = f"No lock file can be made in CHRONIKER_RUNTIME_DIR: {error}"
                raise HostNotReady(reason) from error
        return self._owner.name

    def _start(self, claimed: list[ClaimedRun], sent: float) -> None:
        requests: list[RunRequest] = []
        by_key: dict[int, ClaimedRun] = {}
        for item in claimed:
            try:
                request = build_run_request(item, sent)
            except CommandRefused as error:
                self._fail_to_start(item, str(error))
                continue
            by_key[request.key] = item
            requests.append(request)
        if not requests:
            return
        if self._supervisor is None:
            jobs = [item.job for item in by_key.values()]
            pre_fork.send_robust(sender=None, jobs=jobs, long_running=self.every is not None)
            self._supervisor = Supervisor(before_fork, Masker(site_secrets()))
            self._renewed_at = self._flushed_at = time.monotonic()
        for child in self._supervisor.start(requests):
            self.running[child.key] = _ActiveRun(by_key[child.key], child)
        for item in by_key.values():
            self._send_signal(run_started, item.run, item.job)

    def _fail_to_start(self, item: ClaimedRun, reason: str) -> None:
        """End a run that cannot be started."""
        self.unrecorded.append(self._build_finished_run(item, Outcome(RunStatus.FAILED, reason)))

    # -- supervising -----------------------------------------------------------------------

    def _poll_once(self, wait: float) -> None:
        """Listen to the children for a moment and do what is to be done by now."""
        ended: list[Child] = []
        if self._supervisor and (self.running or not self._sender):
            ended = self._supervisor.poll(wait)
        elif self._sender:
            self._sender.wait(wait)
        else:
            time.sleep(wait)
        for child in ended:
            self._collect_finished(child)
        now = time.monotonic()
        self._handle_stop_signals(now)
        if self.unrecorded and self._should_finish(now):
            self._attempt(self._finish)
        if self.running:
            if now - self._flushed_at >= _FLUSH_SECONDS:
                self._flushed_at = now
                self._attempt(self._flush)
            if now - self._renewed_at >= conf.LEASE_RENEW_SECONDS:
                self._attempt(self._renew, self._renewal_backoff)
            self._drop_unused_leases()
        if outbox.hint.take():
            self._send_notifications()
        if self._sender and self._sender.busy:
            self._attempt(self._sender.turn)
        wanted = self._claim_wanted or self._claim_unconfirmed
        if wanted and self._should_claim(now):
            self._attempt(self._claim)

    def _should_finish(self, now: float) -> bool:
        """Ends that come together are written together, and then places are free for a claim."""
        nearly_idle = len(self.running) <= self._capacity() // 4
        return nearly_idle or now - self._first_end_at >= _BATCH_SECONDS

    def _should_claim(self, now: float) -> bool:
        if self._backoff.waiting or self.unrecorded or self._claiming_finished:
            return False
        if self._capacity_freed and len(self.running) <= self._capacity() // 4:
            return True
        pause = _CLAIM_SECONDS if self._capacity_freed else _POLL_SECONDS
        return now - self._claimed_at >= pause

    def _collect_finished(self, child: Child) -> None:
        """A run's process has ended: prepare what is to be written."""
        item = self.running.pop(child.key)
        if not self.unrecorded:
            self._first_end_at = time.monotonic()
        outcome = child.outcome()
        ended = self._build_finished_run(item.claimed, outcome)
        ended.output = child.recorder.take(final=True)
        ended.written = dict(child.written)
        ended.parts = child.parts
        ended.pid = child.warden_pid
        self.unrecorded.append(ended)
        self._claim_wanted = self._capacity_freed = True

    def _build_finished_run(self, item: ClaimedRun, outcome: Outcome) -> FinishedRun:
        return FinishedRun(
            state=item.state,
            job=item.job,
            run=item.run,
            token=item.token,
            outcome=outcome,
            ended_at=self._now(),
            has_downstream=item.has_downstream,
        )

    def _finish(self) -> None:
        """Write the ends of runs in one transaction or, if one of them spoils it, each alone."""
        waiting = self.unrecorded
        try:
            written = run_transaction(lambda: [end_run(ended) for ended in waiting])
        except DatabaseError as error:
            if is_outage(error):
                raise
            self._finish_individually(waiting)
            return
        self.unrecorded = []
        for ended, done in zip(waiting, written, strict=True):
            self._confirm_finished(ended, done=done)

    def _finish_individually(self, waiting: list[FinishedRun]) -> None:
        self.unrecorded = []
        for position, ended in enumerate(waiting):
            try:
                done = run_transaction(partial(end_run, ended))
            except DatabaseError as error:
                if is_outage(error):
                    self.unrecorded += waiting[position:]
                    raise
                self._retry_rejected(ended, error)
            else:
                self._confirm_finished(ended, done=done)

    def _confirm_finished(self, ended: FinishedRun, *, done: bool) -> None:
        if done or is_recorded(ended):
            self._after_finish(ended)
        else:
            logger.warning(
                "Run %s of job %s lost its lease; nothing of it was written",
                ended.run.pk,
                ended.job.name,
            )

    def _retry_rejected(self, ended: FinishedRun, error: DatabaseError) -> None:
        """The database will not take this end as it is: an end with less is better than none."""
        logger.error("The end of run %s is refused: %s", ended.run.pk, error)
        ended.rejections += 1
        ended.output = OutputBatch()
        ended.run_deleted = not Run.objects.filter(pk=ended.run.pk).exists()
        if ended.rejections == _MAX_REJECTIONS:
            release(ended)
            return
        if ended.rejections == _MAX_REJECTIONS - 1:
            said = f"It {ended.outcome.status}, but the database refused to record that: {error}"
            ended.outcome = Outcome(RunStatus.LOST, said)
            ended.parts, ended.pid, ended.written = None, None, {}
        self.unrecorded.append(ended)

    def _after_finish(self, ended: FinishedRun) -> None:
        self._announce_finished(ended)
        keep = ended.job.max_runs_kept
        # Not at each end: deleting a tenth at a time costs a tenth.
        if keep is not None and (ended.state.runs_total + 1) % max(1, keep // 10) == 0:
            self._attempt(lambda: prune_runs(ended.job, keep))

    def _announce_finished(self, ended: FinishedRun) -> None:
        """Tell of a run that has ended, with the row as it was written."""
        ended.run.status = ended.outcome.status
        ended.run.ended_at = ended.ended_at
        ended.run.duration_seconds = ended.outcome.seconds
        ended.run.exit_code = ended.outcome.exit_code
        ended.run.signal = ended.outcome.signal
        ended.run.error = ended.outcome.error
        self._send_signal(run_finished, ended.run, ended.job, ended)
        if ended.job.command == CHECK_MONITOR:
            self._send_notifications()  # what it measured may have been told from its own process

    def _flush(self) -> None:
        """Store progress and output so far, and hear who wants a run to stop."""
        now, clock = self._now(), time.monotonic()
        for item in self.running.values():
            child, state = item.child, item.claimed.state
            child.read_progress()
            if child.parts_changed and child.parts is not None:
                child.parts_changed = False
                try:
                    run_transaction(
                        lambda state=state, item=item, parts=child.parts: store_progress(  # type: ignore[misc]
                            state.pk, item.claimed.token, parts, now
                        ),
                        attempts=1,
                    )
                except DatabaseError:
                    child.parts_changed = True
                    raise
            if not item.pid_stored:
                Run.objects.running().filter(pk=child.key).update(pid=child.warden_pid)
                item.pid_stored = True
            if clock - item.output_at >= _OUTPUT_SECONDS:
                item.output_at = clock
                self._store_output(item, now)
        wanted = JobState.objects.owned_by(self._tokens()).filter(stop_requested_at__isnull=False)
        for run in wanted.values_list("current_run", flat=True):
            if run in self.running:
                assert self._supervisor is not None
                self._supervisor.stop(self.running[run].child, "Stopped on request.")

    def _store_output(self, item: _ActiveRun, now: datetime) -> None:
        collected = item.child.recorder.take()
        if not collected.pieces and not collected.expired:
            return
        try:
            run_transaction(
                lambda: append_output(
                    item.claimed.state.pk, item.claimed.token, item.child.key, collected, now
                ),
                attempts=2,
            )
        except DatabaseError as error:
            if is_outage(error):
                item.child.recorder.put_back(collected)
            else:
                logger.error("Output of run %s cannot be stored: %s", item.child.key, error)
            raise

    def _tokens(self) -> list[str]:
        return list({item.claimed.token for item in self.running.values()})

    def _renew(self) -> None:
        """Renew all leases, and tell the wardens until when they run."""
        tokens = list({*self._tokens(), *(ended.token for ended in self.unrecorded)})
        sent = boottime()
        run_transaction(lambda: JobState.objects.renew(tokens, conf.LEASE_SECONDS))
        self._renewed_at = time.monotonic()
        alive = set(JobState.objects.owned_by(tokens).values_list("current_run", flat=True))
        assert self._supervisor is not None
        for key, item in self.running.items():
            if key not in alive:
                logger.warning("Run %s lost its lease and is ended", key)
                self._supervisor.abandon(item.child)
                continue
            self._lease_ends[item.claimed.token] = sent + conf.LEASE_SECONDS
            if (deadline := lease_deadline(sent)) is not None:
                self._supervisor.extend(item.child, deadline)

    def _drop_unused_leases(self) -> None:
        """Ends that could not be written in time are somebody else's to write by now."""
        used = {item.claimed.token for item in self.running.values()}
        used |= {ended.token for ended in self.unrecorded}
        self._lease_ends = {token: end for token, end in self._lease_ends.items() if token in used}

    # -- stopping --------------------------------------------------------------------------

    def _handle_stop_signals(self, now: float) -> None:
        """After a first signal wait for the runs, then stop them; after a second stop them now."""
        if not self._stop_signals or self._supervisor is None:
            return
        if self._stop_at is None:
            self._stop_at = now + conf.KILL_GRACE_SECONDS
        if now >= self._stop_at or self._stop_signals > 1:
            for item in self.running.values():
                self._supervisor.stop(
                    item.child, "Stopped, because the scheduler was asked to end."
                )

    @contextmanager
    def _stop_signal_handlers(self) -> Iterator[None]:
        """Turn SIGTERM and SIGINT into a wish, where this is the main thread."""

        def record_stop(*_: object) -> None:
            self._stop_signals += 1

        before: dict[int, Any] = {}
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                before[number] = signal.signal(number, record_stop)
        except ValueError:
            pass
        try:
            yield
        finally:
            for handled, handler in before.items():
                signal.signal(handled, handler)

    def _close(self) -> None:
        if self._sender:
            self._sender.close()
        if self._supervisor:
            self._supervisor.close()
        if self._owner:
            self._owner.release(unlink=not self.running)

    # -- the database that may be away -----------------------------------------------------

    def _attempt(self, action: Callable[[], Any], patience: Backoff | None = None) -> None:
        """Do something with the database; if it is away, try again later and lose nothing."""
        patience = patience or self._backoff
        if patience.waiting:
            return
        # On SQLite nobody else may record what this process owns as long as it lives.
        if patience.attempt(action) is not None and connection.vendor != "sqlite":
            self._drop_lost_runs()

    def _drop_lost_runs(self) -> None:
        """What lost its lease long ago will be recorded by another tick."""
        now = boottime() - conf.LEASE_SECONDS
        for ended in list(self.unrecorded):
            if now > self._lease_ends.get(ended.token, now):
                logger.error(
                    "Run %s of job %s ended as %s, but the database stayed away; it will be "
                    "recorded as lost",
                    ended.run.pk,
                    ended.job.name,
                    ended.outcome.status,
                )
                self.unrecorded.remove(ended)
        if self._claim_unconfirmed and now > self._lease_ends.get(self._pending_token, now):
            self._claim_unconfirmed, self._pending_token = False, ""

    def _send_signal(self, sent: Any, run: Run, job: Job, ended: FinishedRun | None = None) -> None:
        """Send a signal; a receiver that raises is logged (by Django) and stops nothing."""
        sent.send_robust(sender=Run, run=run, job=job)
        if ended is not None and self.on_finished is not None:
            self.on_finished(ended)
