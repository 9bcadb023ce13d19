"""A batch as its supervisor sees it: one guarded process, and the runs that it executes."""

from __future__ import annotations

import base64
import contextlib
import json
import signal
from collections.abc import Sequence
from dataclasses import replace

from chroniker.batches import Payload
from chroniker.enums import RunStatus
from chroniker.masking import Masker

from .batch_spec import BatchEntry, BatchPage, BatchSpec, Facts
from .forkserver import StartRequest
from .output import Recorder
from .running_child import Outcome, RunningChild, RunRequest
from .warden import EndReason

_ITEM_GRACE_SECONDS = 2.0
"""The longest time between SIGTERM and SIGKILL of an item: a measurement has nothing to save."""
_GRACE_SECONDS = 2.0
"""The same for the whole batch."""
_MAX_TRIES = 3
"""How many processes may die without having begun or ended a run until all their runs fail."""
_MAX_TRIES_AFTER_EXIT = 1
"""The same for processes that have exited by themselves."""
_STREAMS = ("stdout", "stderr", "log")


class BatchedRun:
    """A run that is executed in a batch."""

    __slots__ = ("_batch", "_facts", "_masker", "key", "lease_deadline", "parts_changed",
                 "recorder", "request", "stop_reason", "tries", "written")  # fmt: skip

    parts = None
    """It has no progress of its own."""

    def __init__(self, request: RunRequest, masker: Masker) -> None:
        self.request = request
        self.key = request.key
        self.recorder = Recorder(request.streams, request.output_bytes, masker)
        self.written = dict.fromkeys(_STREAMS, 0)
        self.parts_changed = False
        self.stop_reason = ""
        self.tries = 0
        """How many processes have died before they began or ended any of their runs."""
        self.lease_deadline = request.start_request.limits.lease_deadline
        self._masker = masker
        self._batch: RunningBatch | None = None
        self._facts: Facts | None = None

    @property
    def warden_pid(self) -> int:
        """Process id of the batch's guard process; 0 if it is not known yet."""
        return self._batch.warden_pid if self._batch else 0

    @property
    def payload(self) -> Payload | None:
        """What it gave; None if it ended before it gave anything."""
        facts = self._facts or {}
        return facts.get("payload") or None

    @property
    def has_result(self) -> bool:
        """Whether the batch has reported its end."""
        return self._facts is not None

    def read_progress(self) -> None:
        """Nothing to read."""

    def join(self, batch: RunningBatch) -> None:
        """It is executed by this batch now."""
        self._batch = batch

    def set_result(self, facts: Facts) -> None:
        """Store what the batch reported. Raises KeyError, TypeError or ValueError."""
        for stream, (head, tail, size) in facts.get("output", {}).items():
            self.written[stream] += size
            if stream in self.request.streams:
                first, last = base64.b64decode(head), base64.b64decode(tail)
                if size > len(first) + len(last):
                    first, last = self._masker.without_partial_secrets(first, last)
                omitted = size - len(first) - len(last)
                note = f"\n… {omitted} bytes omitted …\n".encode() if omitted else b""
                self.recorder.feed(stream, first + note + last)
        self._facts = facts

    def outcome(self, shutdown_reason: str = "") -> Outcome:
        """Return how it ended; valid after the executor has reported its end."""
        facts = self._facts
        if facts is None:
            assert self._batch is not None
            outcome = self._batch.outcome(shutdown_reason)
            # Not those of the batch, which are of all its runs.
            return replace(outcome, seconds=None, cpu_seconds=None, max_rss_bytes=None)
        number, code = facts.get("signal"), facts.get("code")
        status, error = self._decide_status(facts)
        return Outcome(
            status,
            self._masker.mask_shortened(error),
            code,
            number,
            facts.get("seconds"),
            facts.get("cpu_seconds"),
        )

    def _decide_status(self, facts: Facts) -> tuple[RunStatus, str]:
        match facts.get("status"):
            case RunStatus.TIMED_OUT:
                limit = self.request.start_request.limits.timeout_seconds
                return RunStatus.TIMED_OUT, f"Ended, because it ran longer than {limit:g} s."
            case RunStatus.STOPPED:
                if not self.stop_reason:
                    return RunStatus.LOST, "Ended, because its lease could not be renewed in time."
                return RunStatus.STOPPED, self.stop_reason
            case RunStatus.FAILED if number := facts.get("signal"):
                name = f" {signal.Signals(number).name}" if number < 32 else ""
                hint = " (possibly out of memory)" if number == signal.SIGKILL else ""
                return RunStatus.FAILED, f"Killed by signal {number}{name}{hint}."
            case RunStatus.FAILED:
                error = f"Its process ended with exit code {facts.get('code')} without a result."
                return RunStatus.FAILED, error
        if facts["code"]:
            error = facts.get("error") or f"Ended with exit code {facts['code']}."
            return RunStatus.FAILED, error
        return RunStatus.SUCCEEDED, ""


class RunningBatch(RunningChild):
    """The guarded process that executes the runs. Its key is the negative key of its first run."""

    def __init__(self, runs: Sequence[BatchedRun], masker: Masker, max_workers: int) -> None:
        super().__init__(_request(runs, max_workers), masker)
        self.runs = list(runs)
        self._ended: list[BatchedRun] = []
        self._rest = b""
        self._deadline = self.request.start_request.limits.lease_deadline
        self._suspects: set[int] = set()
        for run in runs:
            run.join(self)

    def handle_data(self, kind: str, data: bytes) -> None:
        """Process what was read from one of the pipes; results use the one for progress."""
        if kind != "progress":
            super().handle_data(kind, data)
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            with contextlib.suppress(ValueError, TypeError, KeyError, IndexError):
                facts = json.loads(line)
                run = self.runs[facts["item"]]
                run.set_result(facts)
                self._ended.append(run)

    def read_progress(self) -> None:
        """Read what is on the shared page, before it is closed: the items in progress."""
        if self.pipes.page is not None:
            self._suspects = BatchPage(self.pipes.page.memory).in_progress()

    def take_ended(self) -> list[BatchedRun]:
        """Return the runs that have ended since the last call."""
        ended, self._ended = self._ended, []
        return ended

    def unfinished(self) -> list[BatchedRun]:
        """Return the runs whose end was not reported."""
        return [run for run in self.runs if not run.has_result]

    def stop_run(self, run: BatchedRun, reason: str = "") -> None:
        """End one run; without a reason, because its lease was lost."""
        run.stop_reason = run.stop_reason or reason
        if self.pipes.page is not None:
            BatchPage(self.pipes.page.memory).stop(self.runs.index(run))

    def extend_run(self, run: BatchedRun, deadline: float) -> None:
        """A run's lease was extended, and with it the life of the batch."""
        run.lease_deadline = deadline
        if deadline != self._deadline:
            self._deadline = deadline
            self.extend(deadline)

    def end_overdue(self, now: float) -> None:
        """End the runs whose own lease was not extended; ``now`` is CLOCK_BOOTTIME."""
        for run in self.runs:
            deadline = run.lease_deadline
            if deadline is not None and now >= deadline and not run.has_result:
                self.stop_run(run)

    def split(self) -> list[list[BatchedRun]]:
        """After the process has died: groups of unfinished runs to be executed again.

        Empty if it was ended on purpose or could not be started, or if nothing would be different.
        A run that is in no group has failed. Those that were in progress are executed alone: one
        of them may have killed the process.
        """
        ending = self.status.ending
        left = self.unfinished()
        if self.start_error or self.stop_reason or self.lease_lost or len(self.runs) == 1:
            return []
        if ending is not None and (
            ending.reason is not EndReason.NONE or ending.signal == signal.SIGTERM
        ):
            return []
        suspects = [run for run in left if self.runs.index(run) in self._suspects]
        exited = ending is not None and ending.signal is None
        others = [run for run in left if run not in suspects]
        if not suspects and len(left) == len(self.runs):
            # It could not load them, or fork, and may not be able to the next time either.
            tries = _MAX_TRIES_AFTER_EXIT if exited else _MAX_TRIES
            others = [run for run in others if run.tries < tries]
            for run in others:
                run.tries += 1
        return [*([run] for run in suspects), *([others] if others else [])]


def _request(runs: Sequence[BatchedRun], max_workers: int) -> RunRequest:
    first = runs[0].request
    entries = []
    for run in runs:
        member, start = run.request.batch, run.request.start_request
        assert member is not None
        entries.append(
            BatchEntry(
                spec=start.spec,
                job=member.job,
                host=member.host,
                timeout_seconds=start.limits.timeout_seconds,
                grace_seconds=min(start.limits.grace_seconds, _ITEM_GRACE_SECONDS),
            )
        )
    assert first.batch is not None
    limits = replace(
        first.start_request.limits,
        timeout_seconds=None,
        grace_seconds=_GRACE_SECONDS,
        lease_deadline=max(
            (run.lease_deadline for run in runs if run.lease_deadline is not None), default=None
        ),
    )
    return RunRequest(
        key=-first.key,
        start_request=StartRequest(
            spec=first.start_request.spec,
            raw=(),
            spawn=False,
            limits=limits,
            batch=BatchSpec(first.batch.runner, tuple(entries), max_workers),
        ),
        streams=(),
        output_bytes=first.output_bytes,
        stderr_is_failure=False,
    )
