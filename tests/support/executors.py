"""An executor without processes, and runs for parts of the scheduler that need one."""

from __future__ import annotations

import time
from collections.abc import Sequence

from chroniker.db.clock import boottime
from chroniker.engine.active_runs import ActiveRun
from chroniker.engine.claims import ClaimedRun
from chroniker.enums import RunStatus
from chroniker.masking import Masker
from chroniker.processes.child import CommandSpec
from chroniker.processes.forkserver import StartRequest
from chroniker.processes.output import Recorder
from chroniker.processes.running_child import Outcome, RunRequest
from chroniker.processes.warden import RunLimits


def make_run_request(
    key: int,
    action: str,
    *,
    raw: tuple[str, ...] = (),
    streams: tuple[str, ...] = ("stdout", "stderr", "log"),
    lease_deadline: float | None = None,
) -> RunRequest:
    """A run of the ``act`` command."""
    return RunRequest(
        key=key,
        start_request=StartRequest(
            spec=CommandSpec(
                run_id=key,
                job_name="a job",
                command="act",
                args=tuple(action.split()),
                log_level="INFO",
                log_format="%(message)s",
                scheduled_for="2026-05-04T12:00:00Z",
                attempt=1,
                trigger="schedule",
                fence=1,
            ),
            raw=raw,
            spawn=False,
            limits=RunLimits(None, 1.0, lease_deadline, None, 0),
        ),
        streams=streams,
        output_bytes=100_000,
        stderr_is_failure=False,
    )


class InMemoryRun:
    """A run that does what its test says."""

    def __init__(self, request: RunRequest) -> None:
        self.key = request.key
        self.recorder = Recorder(request.streams, request.output_bytes, Masker())
        self.written = {"stdout": 0, "stderr": 0, "log": 0}
        self.warden_pid = 0
        self.parts: tuple[int, int] | None = None
        self.payload = None
        self.parts_changed = False
        self.streams = request.streams
        self.lease_deadline = request.start_request.limits.lease_deadline
        self.reported: tuple[int, int] | None = None
        self.ending: Outcome | None = None

    def write(self, stream: str, text: str) -> None:
        self.written[stream] += len(text.encode())
        if stream in self.streams:
            self.recorder.feed(stream, text.encode())

    def end(self, status: RunStatus, error: str = "", exit_code: int | None = None) -> None:
        if self.ending is None:
            self.ending = Outcome(status, error, exit_code, seconds=0.5)

    def read_progress(self) -> None:
        if self.reported != self.parts:
            self.parts, self.parts_changed = self.reported, True

    def outcome(self, shutdown_reason: str = "") -> Outcome:
        assert self.ending is not None
        return self.ending


class InMemoryExecutor:
    """Knows a few actions of the ``act`` command, and starts no process."""

    def __init__(self) -> None:
        self.runs: dict[int, InMemoryRun] = {}

    def start(self, requests: Sequence[RunRequest]) -> list[InMemoryRun]:
        made = [InMemoryRun(request) for request in requests]
        for run, request in zip(made, requests, strict=True):
            self.runs[run.key] = run
            if request.start_request.raw:
                run.end(RunStatus.FAILED, "There are no programs here.", 127)
            else:
                self._act(run, *request.start_request.spec.args)
        return made

    def _act(self, run: InMemoryRun, action: str, *words: str) -> None:
        if action == "sleep":
            return
        if action == "say":
            run.write("stdout", " ".join(words) + "\n")
        elif action == "report_progress_to":
            run.reported = (int(words[0]), int(words[0]))
            run.read_progress()
        code = int(words[0]) if action == "exit" else 0
        run.end(
            RunStatus.FAILED if code else RunStatus.SUCCEEDED,
            f"Ended with exit code {code}." if code else "",
            code,
        )

    def poll(self, timeout: float) -> list[InMemoryRun]:
        if not self._ended():
            time.sleep(min(timeout, 0.01))
        for run in self.runs.values():
            if run.lease_deadline is not None and boottime() > run.lease_deadline:
                run.end(RunStatus.LOST, "Its lease ended.")
        return [self.runs.pop(run.key) for run in self._ended()]

    def _ended(self) -> list[InMemoryRun]:
        return [run for run in self.runs.values() if run.ending is not None]

    def stop(self, key: int, reason: str) -> None:
        self.runs[key].end(RunStatus.STOPPED, reason)

    def interrupt(self, key: int, reason: str) -> None:
        self.runs[key].end(RunStatus.INTERRUPTED, reason)

    def abandon(self, key: int) -> None:
        self.runs[key].end(RunStatus.LOST, "Its lease was lost.")

    def extend(self, key: int, deadline: float) -> None:
        self.runs[key].lease_deadline = deadline

    def descriptors(self) -> list[int]:
        return []

    def close(self) -> None:
        self.runs.clear()


def make_active_run(claimed: ClaimedRun) -> tuple[ActiveRun, InMemoryRun]:
    """A claimed run that an executor has started."""
    handle = InMemoryRun(make_run_request(claimed.run.pk, "sleep 60"))
    return ActiveRun(claimed, handle), handle
