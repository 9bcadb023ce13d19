"""How claimed runs are started."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from chroniker.commands import check_command, check_raw_command, split_args
from chroniker.conf import LOCAL, conf, remote_executors, runtime_dir
from chroniker.enums import Stream
from chroniker.exceptions import CommandRefused, HostNotReady
from chroniker.executors.base import Executor
from chroniker.executors.local import LocalExecutor
from chroniker.masking import Masker, site_secrets
from chroniker.processes.child import CommandSpec
from chroniker.processes.forkserver import StartRequest
from chroniker.processes.locks import OwnerLock
from chroniker.processes.running_child import BatchMember, RunRequest
from chroniker.processes.warden import RunLimits
from chroniker.run_context import utc_text
from chroniker.signals import pre_fork, runs_starting
from chroniker.site_tasks import TaskArguments, check_task

from .active_runs import ActiveRun
from .claims import ClaimedRun
from .leases import lease_deadline
from .reaper import job_lock


@dataclass(slots=True)
class LaunchResult:
    """What became of claimed runs."""

    started: list[ActiveRun] = field(default_factory=list)
    refused: list[tuple[ClaimedRun, str]] = field(default_factory=list)
    """Runs that cannot be started, with the reason."""


class Launcher:
    """Starts claimed runs; holds the executor and the lock that shows its owner is alive.

    ``long_running``: whether the scheduler runs until it is stopped, for the signal ``pre_fork``.
    ``max_parallel``: instead of ``CHRONIKER_MAX_PARALLEL``.
    """

    def __init__(self, *, long_running: bool, max_parallel: int | None = None) -> None:
        self._long_running = long_running
        self._max_parallel = max_parallel
        self._owner: OwnerLock | None = None
        self._executor: Executor | None = None

    @property
    def executor(self) -> Executor | None:
        """The executor; None before the first start."""
        return self._executor

    def owner_name(self) -> str:
        """The name under which this process owns leases. Raises HostNotReady."""
        if self._owner is None:
            try:
                self._owner = OwnerLock(runtime_dir())
            except OSError as error:
                reason = f"No lock file can be created in CHRONIKER_RUNTIME_DIR: {error}"
                raise HostNotReady(reason) from error
        return self._owner.name

    def start(self, claimed: list[ClaimedRun], sent: float) -> LaunchResult:
        """Start runs whose leases were requested at ``sent`` (CLOCK_BOOTTIME, seconds)."""
        result = LaunchResult()
        requests: list[RunRequest] = []
        by_key: dict[int, ClaimedRun] = {}
        runs_starting.send_robust(sender=None, runs=[item.run for item in claimed])
        for item in claimed:
            try:
                request = build_run_request(item, sent)
            except CommandRefused as error:
                result.refused.append((item, str(error)))
                continue
            by_key[request.key] = item
            requests.append(request)
        if requests:
            if self._executor is None:
                jobs = [item.job for item in by_key.values()]
                pre_fork.send_robust(sender=None, jobs=jobs, long_running=self._long_running)
                self._executor = LocalExecutor(Masker(site_secrets()), self._max_parallel)
            for handle in self._executor.start(requests):
                result.started.append(ActiveRun(by_key[handle.key], handle))
        return result

    def descriptors(self) -> list[int]:
        """File descriptors that no other process may hold: they show that this one is alive."""
        held = self._executor.descriptors() if self._executor else []
        return held + ([self._owner.fd] if self._owner else [])

    def close(self, *, runs_left: bool) -> None:
        """End the executor, and release the lock; ``runs_left``: leave its file for the reaper."""
        if self._executor:
            self._executor.close()
        if self._owner:
            self._owner.release(unlink=not runs_left)


def command_spec(item: ClaimedRun, args: Sequence[str]) -> CommandSpec:
    """What the process of a run executes, and what the run knows about itself.

    Raises CommandRefused if the run was requested with arguments that are not those of a task.
    """
    job = item.job
    arguments = TaskArguments(job.task_args, job.task_kwargs)
    if job.task and item.run.args is not None:
        arguments = TaskArguments.load(item.run.args)
    return CommandSpec(
        run_id=item.run.pk,
        job_name=job.name,
        command=job.command,
        args=tuple(args),
        log_level=conf.LOG_CAPTURE_LEVEL,
        log_format=conf.LOG_FORMAT,
        scheduled_for=utc_text(item.run.scheduled_for),
        attempt=item.run.attempt,
        trigger=item.run.trigger,
        fence=item.state.fence,
        traceparent=item.run.traceparent,
        task=job.task,
        task_arguments=arguments.dump() if job.task else "",
        enqueue=job.enqueue,
    )


def build_run_request(item: ClaimedRun, sent: float) -> RunRequest:
    """What an executor needs to start a claimed run whose lease was requested at ``sent``.

    Raises CommandRefused if the job is not allowed to run or cannot be started.
    """
    job = item.job
    if job.effective_executor not in (LOCAL, *remote_executors()):
        raise CommandRefused(
            f"There is no executor “{job.effective_executor}”. Change the job's executor, or add "
            "it to CHRONIKER_EXECUTORS."
        )
    arguments = job.args if item.run.args is None else item.run.args
    # A task has none of a command line, and the runner of a batch needs none.
    args = [] if item.batch or job.task else split_args(arguments)
    raw: tuple[str, ...] = ()
    if job.task:
        check_task(job.task)
    elif job.raw_command:
        check_raw_command(job.raw_command)
        raw = (*split_args(job.raw_command), *args)
    else:
        check_command(job.command)
    lock = None
    if conf.CHECK_LOCK_FILE:
        lock = job_lock(item.state.pk)
        try:
            free = lock.acquire(wait=False)
        except OSError as error:
            raise CommandRefused(f"{lock.path} cannot be locked: {error}") from error
        if not free:
            raise CommandRefused(
                f"A process of an earlier run still holds {lock.path}; end it first."
            )
    streams = [Stream.LOG]
    if job.log_stdout:
        streams.append(Stream.STDOUT)
    if job.log_stderr:
        streams.append(Stream.STDERR)
    return RunRequest(
        key=item.run.pk,
        start_request=StartRequest(
            spec=command_spec(item, args),
            raw=raw,
            spawn=conf.START_METHOD == "spawn",
            limits=RunLimits(
                timeout_seconds=job.timeout_seconds,
                grace_seconds=job.grace_seconds,
                lease_deadline=lease_deadline(sent),
                memory_limit_bytes=job.memory_limit_mb and job.memory_limit_mb * 2**20,
                nice=job.nice,
            ),
        ),
        streams=tuple(stream.value for stream in streams),
        output_bytes=conf.MAX_OUTPUT_BYTES,
        stderr_is_failure=job.stderr_is_failure,
        lock=lock,
        batch=BatchMember(item.batch, job.pk, item.state.host) if item.batch else None,
    )
