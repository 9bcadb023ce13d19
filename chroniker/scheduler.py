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

from . import outbox
from .claims import Claim, Claimant, Claimed, block, claim, due_keys, new_token
from .clock import boottime
from .commands import CHECK_MONITOR
from .conf import conf, runtime_dir
from .endings import (
    Ended,
    end_run,
    prune_runs,
    release,
    store_live_output,
    store_progress,
    was_ended_by,
)
from .enums import RunStatus
from .exceptions import CommandRefused, DatabaseUnready, HostUnready
from .heartbeat import Glance, beat, note_duration, note_first_tick
from .incidents import attend, open_overdue
from .locks import OwnerLock
from .models import Job, JobState, Run
from .output import Masker, Taken
from .patience import Patience, explain, short_waits_for_locks
from .planning import explain_blocked, plan_changed_jobs, plan_for_new_host
from .reaping import adopt, reap
from .signals import forking, run_finished, run_missed, run_started
from .starting import before_fork, lease_deadline, request_for, site_secrets
from .supervisor import Child, Outcome, RunRequest, Supervisor
from .transactions import is_outage, run_transaction

if TYPE_CHECKING:
    from .deadman import LifeSign
    from .notifications import Postman  # imported where there is something to send

logger = logging.getLogger(__name__)

_FLUSH_SECONDS = 1.0
"""How often progress, output and stop requests are looked after while something runs."""
_OUTPUT_SECONDS = 2.0
_CLAIM_SECONDS = 0.05
"""Claims are at least this far apart, unless three quarters of the places are free."""
_CLAIM_WINDOW_SECONDS = 600
"""How long after its beginning a tick still takes what has become due since. A tick that went on
for ever would run the code of the day on which it began."""
_GATHER_SECONDS = 0.03
"""How long an end waits for others before it is written."""
_MOST_REFUSALS = 3
_TURN_SECONDS = 0.5


@dataclass(slots=True)
class _Running:
    """A claimed run and its process."""

    claimed: Claimed
    child: Child
    pid_stored: bool = False
    output_at: float = field(default_factory=time.monotonic)


class Runner:
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
        glance: Glance | None = None,
        on_end: Callable[[Ended], None] | None = None,
    ) -> None:
        self.host = conf.HOSTNAME
        self.every = every
        self.only = only
        self.force = force
        self.max_parallel = max_parallel
        self.pinned_now = now
        self._glance = glance
        self.on_end = on_end
        self.running: dict[int, _Running] = {}
        self.unfinished: list[Ended] = []
        self._supervisor: Supervisor | None = None
        self._owner: OwnerLock | None = None
        self._postman: Postman | None = None
        self._clock, self._clock_read = now or datetime.now(UTC), boottime()
        self._began = self._now()
        self._patience = Patience()
        self._renewing = Patience()  # its own: a claim that waits for a lock must not hold it back
        self._claim_in_doubt = False
        self._claimed_at = 0.0
        self._first_end_at = 0.0
        self._claim_wanted = False
        self._place_became_free = False
        self._claims_are_over = False
        """What was asked for by name has been claimed; nothing else is this process's to start."""
        self._flushed_at = 0.0
        self._renewed_at = 0.0
        self._stop_signals = 0
        self._stop_at: float | None = None
        self._lease_ends: dict[str, float] = {}
        self._pending_token = ""
        self._life_sign: LifeSign | None = None

    # -- the whole -------------------------------------------------------------------------

    def run(self) -> None:
        """Tick, and stay until everything that it started has ended.

        Raises DatabaseUnready where the first tick fails before it has started anything, and
        HostUnready where there is no safe place for lock files.
        """
        try:
            runtime_dir()
        except OSError as error:
            raise HostUnready(str(error)) from error
        with self._signals(), short_waits_for_locks():
            try:
                self._began_monotonic = next_tick = time.monotonic()
                failure = self._patience.attempt(self.tick, tell=False)
                if failure and not self._busy:
                    raise DatabaseUnready(explain(failure)) from failure
                while self._busy or (self.every and not self._stop_signals):
                    wait = _GATHER_SECONDS if self.unfinished else _TURN_SECONDS
                    if self.every:
                        wait = min(wait, next_tick + self.every - time.monotonic())
                    self._turn(max(0.0, wait))
                    if self.every and time.monotonic() >= next_tick + self.every:
                        next_tick = max(next_tick + self.every, time.monotonic() - self.every)
                        self._guarded(self.tick)
            finally:
                self._close()
                if self._life_sign is not None:
                    self._life_sign.wait()

    @property
    def _busy(self) -> bool:
        """Whether something that it began has not ended: a run or its record, a claim, a mail."""
        telling = self._postman is not None and self._postman.busy
        return bool(self.running or self.unfinished or self._claim_in_doubt or telling)

    def tick(self) -> None:
        """Look at the database once and start what is due."""
        started = time.monotonic()
        glance, self._glance = self._glance or beat(self.host, self.pinned_now), None
        self._clock, self._clock_read = glance.clock, glance.read_at
        self._began = self._now()
        if glance.new_host:
            plan_for_new_host(self.host, self._now())
            note_first_tick(self.host)
        lost: list[Ended] = []
        if glance.owned or glance.stale:
            lost = reap(self.host, self._now(), stale=glance.stale)
        try:
            if glance.unplanned:
                plan_changed_jobs(self._now())
            if (glance.due or glance.unplanned or self.force) and not glance.paused:
                self._claim()
                explain_blocked(self._now(), self.host)
                self._claim_wanted = True
        finally:
            for ended in lost:
                self._tell_end(ended)
        self._look_after_incidents(glance)
        note_duration(self.host, time.monotonic() - started)
        if self.only is None and conf.HEARTBEAT_URL:
            self._give_sign_of_life()

    def _give_sign_of_life(self) -> None:
        from .deadman import LifeSign

        if self._postman is not None:
            self._guarded(self._postman.turn)  # what is to be sent is forked before the thread
        self._life_sign = self._life_sign or LifeSign()
        self._life_sign.send()

    def _may_fork(self) -> bool:
        """Whether no thread of ours could hold a lock that a child would wait for."""
        return self._life_sign is None or not self._life_sign.talking

    def _look_after_incidents(self, glance: Glance) -> None:
        """After the claim: what has just been started is not overdue."""
        if glance.overdue:
            open_overdue(self._now())
        if glance.attention:
            attend(self._now())
        if glance.digest:
            from .digests import write_digests

            write_digests(self._now())
        if outbox.hint.take() or glance.outbox:
            self._send()

    def _send(self) -> None:
        """Let the outbox be emptied, beside everything else."""
        if self._postman is None:
            from .notifications import Postman

            self._postman = Postman(self._now, self._may_fork, before_fork, self._descriptors)
        self._postman.want()

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
        if self._stop_signals and not self._claim_in_doubt:
            return
        if self._supervisor is None and not self._may_fork():
            return  # the first run forks the zygote; it is wanted still
        claimant = Claimant(
            host=self.host,
            owner=self._owner_name(),
            max_parallel=self._places(),
            only=self.only,
        )
        # Kept until it is known to be committed: what bears the token is ours.
        token = self._pending_token = self._pending_token or new_token()
        sent = boottime()
        now = self._now()
        horizon = now
        if not self.every and time.monotonic() - self._began_monotonic > _CLAIM_WINDOW_SECONDS:
            horizon = self._began
        self._claim_in_doubt = True
        try:
            taken = self._claim_safely(claimant, horizon, now, token)
        except (DatabaseError, InterfaceError) as error:
            self._claim_in_doubt = is_outage(error)
            self._lease_ends.setdefault(token, sent + conf.LEASE_SECONDS)
            raise
        self._pending_token, self._claim_in_doubt = "", False
        self._claimed_at = time.monotonic()
        self._place_became_free = False
        self._claim_wanted = bool(taken.started)
        if self.force:
            self.force, self._claims_are_over = False, True
        if taken.started:
            for item in taken.started:
                self._lease_ends[item.token] = sent + conf.LEASE_SECONDS
            self._start(taken.started, sent)
        for run in taken.missed:
            self._tell(run_missed, run, run.job)

    def _claim_safely(
        self, claimant: Claimant, horizon: datetime, now: datetime, token: str
    ) -> Claim:
        """Claim all at once or, where one of the jobs makes the database refuse, each by itself."""
        try:
            return run_transaction(lambda: claim(claimant, horizon, now, token, force=self.force))
        except DatabaseError as error:
            if is_outage(error):
                raise
            logger.exception("A claim was refused; trying the jobs one by one")
        taken = Claim()
        for key in due_keys(claimant, horizon):
            alone = replace(claimant, only_states=frozenset([key]))
            try:
                one = run_transaction(
                    partial(claim, alone, horizon, now, new_token(), force=self.force)
                )
            except DatabaseError as error:
                if is_outage(error):
                    break  # what was taken has to be started; the others are taken later
                self._set_aside(key, error)
            else:
                taken.started += one.started
                taken.missed += one.missed
        return taken

    def _set_aside(self, key: int, error: DatabaseError) -> None:
        """A state that cannot be claimed as it is: for a while, or until somebody looks at it."""
        try:
            if not run_transaction(partial(adopt, key)):
                block(key, f"command: the database refused to start it: {error}")
        except (DatabaseError, InterfaceError):
            logger.exception("State %s is left as it is", key)  # others have to be started

    def _places(self) -> int:
        """How many runs this host may have at one time, for this claim."""
        return conf.MAX_PARALLEL if self.max_parallel is None else self.max_parallel

    def _owner_name(self) -> str:
        if self._owner is None:
            try:
                self._owner = OwnerLock(runtime_dir())
            except OSError as error:
                reason = f"No lock file can be made in CHRONIKER_RUNTIME_DIR: {error}"
                raise HostUnready(reason) from error
        return self._owner.name

    def _start(self, claimed: list[Claimed], sent: float) -> None:
        requests: list[RunRequest] = []
        by_key: dict[int, Claimed] = {}
        for item in claimed:
            try:
                request = request_for(item, sent)
            except CommandRefused as error:
                self._refuse(item, str(error))
                continue
            by_key[request.key] = item
            requests.append(request)
        if not requests:
            return
        if self._supervisor is None:
            jobs = [item.job for item in by_key.values()]
            forking.send_robust(sender=None, jobs=jobs, lasting=self.every is not None)
            self._supervisor = Supervisor(before_fork, Masker(site_secrets()))
            self._renewed_at = self._flushed_at = time.monotonic()
        for child in self._supervisor.start(requests):
            self.running[child.key] = _Running(by_key[child.key], child)
        for item in by_key.values():
            self._tell(run_started, item.run, item.job)

    def _refuse(self, item: Claimed, reason: str) -> None:
        """End a run that cannot be started."""
        self.unfinished.append(self._ended(item, Outcome(RunStatus.FAILED, reason)))

    # -- supervising -----------------------------------------------------------------------

    def _turn(self, wait: float) -> None:
        """Listen to the children for a moment and do what is to be done by now."""
        ended: list[Child] = []
        if self._supervisor and (self.running or not self._postman):
            ended = self._supervisor.poll(wait)
        elif self._postman:
            self._postman.wait(wait)
        else:
            time.sleep(wait)
        for child in ended:
            self._note_end(child)
        now = time.monotonic()
        self._obey_signals(now)
        if self.unfinished and self._time_to_finish(now):
            self._guarded(self._finish)
        if self.running:
            if now - self._flushed_at >= _FLUSH_SECONDS:
                self._flushed_at = now
                self._guarded(self._flush)
            if now - self._renewed_at >= conf.HEARTBEAT_SECONDS:
                self._guarded(self._renew, self._renewing)
            self._let_go_of_lost_leases()
        if outbox.hint.take():
            self._send()
        if self._postman and self._postman.busy:
            self._guarded(self._postman.turn)
        wanted = self._claim_wanted or self._claim_in_doubt
        if wanted and self._time_to_claim(now):
            self._guarded(self._claim)

    def _time_to_finish(self, now: float) -> bool:
        """Ends that come together are written together, and then places are free for a claim."""
        few = len(self.running) <= self._places() // 4
        return few or now - self._first_end_at >= _GATHER_SECONDS

    def _time_to_claim(self, now: float) -> bool:
        if self._patience.waiting or self.unfinished or self._claims_are_over:
            return False
        if self._place_became_free and len(self.running) <= self._places() // 4:
            return True
        pause = _CLAIM_SECONDS if self._place_became_free else _TURN_SECONDS
        return now - self._claimed_at >= pause

    def _note_end(self, child: Child) -> None:
        """A run's process has ended: prepare what is to be written."""
        item = self.running.pop(child.key)
        if not self.unfinished:
            self._first_end_at = time.monotonic()
        outcome = child.outcome()
        ended = self._ended(item.claimed, outcome)
        ended.output = child.recorder.take(final=True)
        ended.written = dict(child.written)
        ended.parts = child.parts
        ended.pid = child.warden_pid
        self.unfinished.append(ended)
        self._claim_wanted = self._place_became_free = True

    def _ended(self, item: Claimed, outcome: Outcome) -> Ended:
        return Ended(
            state=item.state,
            job=item.job,
            run=item.run,
            token=item.token,
            outcome=outcome,
            ended_at=self._now(),
            has_dependents=item.has_dependents,
        )

    def _finish(self) -> None:
        """Write the ends of runs in one transaction or, if one of them spoils it, each alone."""
        waiting = self.unfinished
        try:
            written = run_transaction(lambda: [end_run(ended) for ended in waiting])
        except DatabaseError as error:
            if is_outage(error):
                raise
            self._finish_one_by_one(waiting)
            return
        self.unfinished = []
        for ended, done in zip(waiting, written, strict=True):
            self._finished(ended, done=done)

    def _finish_one_by_one(self, waiting: list[Ended]) -> None:
        self.unfinished = []
        for position, ended in enumerate(waiting):
            try:
                done = run_transaction(partial(end_run, ended))
            except DatabaseError as error:
                if is_outage(error):
                    self.unfinished += waiting[position:]
                    raise
                self._refused(ended, error)
            else:
                self._finished(ended, done=done)

    def _finished(self, ended: Ended, *, done: bool) -> None:
        if done or was_ended_by(ended):
            self._after_end(ended)
        else:
            logger.warning(
                "Run %s of job %s lost its lease; nothing of it was written",
                ended.run.pk,
                ended.job.name,
            )

    def _refused(self, ended: Ended, error: DatabaseError) -> None:
        """The database will not take this end as it is: an end with less is better than none."""
        logger.error("The end of run %s is refused: %s", ended.run.pk, error)
        ended.refusals += 1
        ended.output = Taken()
        ended.run_is_gone = not Run.objects.filter(pk=ended.run.pk).exists()
        if ended.refusals == _MOST_REFUSALS:
            release(ended)
            return
        if ended.refusals == _MOST_REFUSALS - 1:
            said = f"It {ended.outcome.status}, but the database refused to record that: {error}"
            ended.outcome = Outcome(RunStatus.LOST, said)
            ended.parts, ended.pid, ended.written = None, None, {}
        self.unfinished.append(ended)

    def _after_end(self, ended: Ended) -> None:
        self._tell_end(ended)
        keep = ended.job.max_runs_kept
        # Not at each end: deleting a tenth at a time costs a tenth.
        if keep is not None and (ended.state.runs_total + 1) % max(1, keep // 10) == 0:
            self._guarded(lambda: prune_runs(ended.job, keep))

    def _tell_end(self, ended: Ended) -> None:
        """Tell of a run that has ended, with the row as it was written."""
        ended.run.status = ended.outcome.status
        ended.run.ended_at = ended.ended_at
        ended.run.duration_seconds = ended.outcome.seconds
        ended.run.exit_code = ended.outcome.exit_code
        ended.run.signal = ended.outcome.signal
        ended.run.error = ended.outcome.error
        self._tell(run_finished, ended.run, ended.job, ended)
        if ended.job.command == CHECK_MONITOR:
            self._send()  # what it measured may have been told from its own process

    def _flush(self) -> None:
        """Store progress and output so far, and hear who wants a run to stop."""
        now, clock = self._now(), time.monotonic()
        for item in self.running.values():
            child, state = item.child, item.claimed.state
            child.look_at_progress()
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

    def _store_output(self, item: _Running, now: datetime) -> None:
        taken = item.child.recorder.take()
        if not taken.pieces and not taken.expired:
            return
        try:
            run_transaction(
                lambda: store_live_output(
                    item.claimed.state.pk, item.claimed.token, item.child.key, taken, now
                ),
                attempts=2,
            )
        except DatabaseError as error:
            if is_outage(error):
                item.child.recorder.put_back(taken)
            else:
                logger.error("Output of run %s cannot be stored: %s", item.child.key, error)
            raise

    def _tokens(self) -> list[str]:
        return list({item.claimed.token for item in self.running.values()})

    def _renew(self) -> None:
        """Renew all leases, and tell the wardens until when they run."""
        tokens = list({*self._tokens(), *(ended.token for ended in self.unfinished)})
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

    def _let_go_of_lost_leases(self) -> None:
        """Ends that could not be written in time are somebody else's to write by now."""
        used = {item.claimed.token for item in self.running.values()}
        used |= {ended.token for ended in self.unfinished}
        self._lease_ends = {token: end for token, end in self._lease_ends.items() if token in used}

    # -- stopping --------------------------------------------------------------------------

    def _obey_signals(self, now: float) -> None:
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
    def _signals(self) -> Iterator[None]:
        """Turn SIGTERM and SIGINT into a wish, where this is the main thread."""

        def wish(*_: object) -> None:
            self._stop_signals += 1

        before: dict[int, Any] = {}
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                before[number] = signal.signal(number, wish)
        except ValueError:
            pass
        try:
            yield
        finally:
            for handled, handler in before.items():
                signal.signal(handled, handler)

    def _close(self) -> None:
        if self._postman:
            self._postman.close()
        if self._supervisor:
            self._supervisor.close()
        if self._owner:
            self._owner.release(unlink=not self.running)

    # -- the database that may be away -----------------------------------------------------

    def _guarded(self, action: Callable[[], Any], patience: Patience | None = None) -> None:
        """Do something with the database; if it is away, try again later and lose nothing."""
        patience = patience or self._patience
        if patience.waiting:
            return
        # On SQLite nobody else may record what this process owns as long as it lives.
        if patience.attempt(action) is not None and connection.vendor != "sqlite":
            self._give_up_what_is_lost()

    def _give_up_what_is_lost(self) -> None:
        """What lost its lease long ago will be recorded by another tick."""
        now = boottime() - conf.LEASE_SECONDS
        for ended in list(self.unfinished):
            if now > self._lease_ends.get(ended.token, now):
                logger.error(
                    "Run %s of job %s ended as %s, but the database stayed away; it will be "
                    "recorded as lost",
                    ended.run.pk,
                    ended.job.name,
                    ended.outcome.status,
                )
                self.unfinished.remove(ended)
        if self._claim_in_doubt and now > self._lease_ends.get(self._pending_token, now):
            self._claim_in_doubt, self._pending_token = False, ""

    def _tell(self, sent: Any, run: Run, job: Job, ended: Ended | None = None) -> None:
        """Send a signal; a receiver that raises is logged (by Django) and stops nothing."""
        sent.send_robust(sender=Run, run=run, job=job)
        if ended is not None and self.on_end is not None:
            self.on_end(ended)
