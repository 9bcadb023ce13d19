"""From a claimed run to what its process has to know."""

from __future__ import annotations

from django.db import connection

from chroniker.commands import check_command, check_raw_command, split_args
from chroniker.conf import conf
from chroniker.enums import Stream
from chroniker.exceptions import CommandRefused
from chroniker.processes.child import CommandSpec
from chroniker.processes.forkserver import StartRequest
from chroniker.processes.supervisor import RunRequest
from chroniker.processes.warden import RunLimits

from .claims import ClaimedRun
from .reaper import job_lock


def build_run_request(item: ClaimedRun, sent: float) -> RunRequest:
    """What the supervisor has to know of a claimed run whose lease was asked for at ``sent``.

    Raises CommandRefused where the job may not or cannot be started.
    """
    job = item.job
    args = split_args(job.args)
    raw: tuple[str, ...] = ()
    if job.raw_command:
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
            spec=CommandSpec(
                run_id=item.run.pk,
                job_name=job.name,
                command=job.command,
                args=tuple(args),
                log_level=conf.LOG_CAPTURE_LEVEL,
                log_format=conf.LOG_FORMAT,
            ),
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
    )


def lease_deadline(sent: float) -> float | None:
    """When a warden ends its run by itself: before the lease that was asked for at ``sent`` ends.

    None on SQLite, where all hosts are one machine and the kernel tells who is alive.
    """
    if connection.vendor == "sqlite":
        return None
    lease = conf.LEASE_SECONDS
    return sent + lease - max(0.1 * lease, 0.2)
