"""What the scheduler does with the results of a batch, and with what a dead process has left."""

from __future__ import annotations

import base64
import json
import signal
from typing import Any

import pytest

from chroniker.enums import RunStatus
from chroniker.masking import Masker
from chroniker.processes.batch_spec import BatchPage
from chroniker.processes.child import CommandSpec
from chroniker.processes.forkserver import StartRequest
from chroniker.processes.running_batch import BatchedRun, RunningBatch
from chroniker.processes.running_child import BatchMember, RunRequest
from chroniker.processes.warden import EndReason, ExitReport, RunLimits
from chroniker.progress import ProgressPage

SPEC = CommandSpec(
    7, "job", "check_monitor", (), "INFO", "%(message)s", "2026-05-04T12:00:00Z", 1, "schedule", 12
)
LIMITS = RunLimits(30, 10.0, 1000.0, None, 0)


def make_batch(number: int = 4, streams: tuple[str, ...] = ("stdout", "log")) -> RunningBatch:
    masker = Masker({"hunter2hunter2"})
    runs = []
    for key in range(1, number + 1):
        start = StartRequest(spec=SPEC, raw=(), spawn=False, limits=LIMITS)
        member = BatchMember("monitors", key + 100, "")
        runs.append(
            BatchedRun(RunRequest(key, start, streams, 10_000, False, None, member), masker)
        )
    batch = RunningBatch(runs, masker, 8)
    batch.pipes.page = ProgressPage()
    return batch


def report(batch: RunningBatch, item: int, **facts: Any) -> None:
    values = {"item": item, "code": 0, "error": "", "seconds": 0.5, "cpu_seconds": 0.25,
              "payload": {"value": item}} | facts  # fmt: skip
    batch.handle_data("progress", json.dumps(values).encode() + b"\n")


def die(batch: RunningBatch, in_progress: set[int], **ending: Any) -> None:
    assert batch.pipes.page is not None
    for slot, item in enumerate(in_progress):
        BatchPage(batch.pipes.page.memory).begin(slot, item)
    values = {"code": None, "signal": int(signal.SIGKILL), "seconds": 1.0, "cpu_seconds": 0.5,
              "max_rss_bytes": 1, "reason": EndReason.NONE, "leftovers": 0} | ending  # fmt: skip
    batch.status.feed(ExitReport(**values).line())
    batch.read_progress()
    batch.pipes.close_page()


def keys(groups: list[list[BatchedRun]]) -> list[list[int]]:
    return [[run.key for run in group] for group in groups]


def test_results_arrive_one_by_one() -> None:
    batch = make_batch()
    assert batch.key == -1
    report(batch, 2)
    (run,) = batch.take_ended()
    assert (run.key, run.payload) == (3, {"value": 2})
    outcome = run.outcome()
    assert (outcome.status, outcome.seconds, outcome.cpu_seconds) == ("succeeded", 0.5, 0.25)
    assert batch.take_ended() == []
    assert len(batch.unfinished()) == 3


def test_result_in_two_pieces_and_garbage() -> None:
    batch = make_batch()
    line = json.dumps({"item": 0, "code": 0, "seconds": 1, "payload": {}}).encode()
    batch.handle_data("progress", b"garbage\n" + line[:10])
    assert batch.take_ended() == []
    batch.handle_data("progress", line[10:] + b'\n{"item": 99}\n')
    assert [run.key for run in batch.take_ended()] == [1]


@pytest.mark.parametrize(
    ("facts", "status", "error"),
    [
        ({"code": 1, "error": "CommandError: hunter2hunter2"}, "failed", "CommandError: ********"),
        ({"status": "failed", "signal": 9}, "failed",
         "Killed by signal 9 SIGKILL (possibly out of memory)."),
        ({"status": "failed", "signal": 11}, "failed", "Killed by signal 11 SIGSEGV."),
        ({"status": "failed", "code": 0}, "failed",
         "Its process ended with exit code 0 without a result."),
        ({"status": "timed_out"}, "timed_out", "Ended, because it ran longer than 30 s."),
        ({"status": "stopped"}, "lost", "Ended, because its lease could not be renewed in time."),
    ],
)  # fmt: skip
def test_ends_of_runs(facts: dict[str, Any], status: str, error: str) -> None:
    batch = make_batch()
    report(batch, 0, **{"payload": None} | facts)
    outcome = batch.take_ended()[0].outcome()
    assert (outcome.status, outcome.error) == (status, error)


def test_run_that_was_requested_to_stop_is_stopped_for_this_reason() -> None:
    batch = make_batch()
    batch.stop_run(batch.runs[1], "Stopped on request.")
    assert batch.pipes.page is not None
    assert list(BatchPage(batch.pipes.page.memory).stopped()) == [1]
    report(batch, 1, status="stopped")
    outcome = batch.take_ended()[0].outcome()
    assert (outcome.status, outcome.error) == (RunStatus.STOPPED, "Stopped on request.")


def test_output_is_kept_with_the_run_unless_the_job_does_not_want_it() -> None:
    batch = make_batch()
    text = [base64.b64encode(part).decode() for part in (b"begin", b"x" * 56 + b"end")]
    report(batch, 0, output={"stdout": [*text, 1000], "stderr": [*text, 64]})
    (run,) = batch.take_ended()
    assert run.written == {"stdout": 1000, "stderr": 64, "log": 0}
    pieces = run.recorder.take(final=True).pieces
    assert "".join(piece.text for piece in pieces) == "begin\n… 992 bytes omitted …\nend"


@pytest.mark.parametrize(
    ("first", "last", "text"),
    [
        # As if the secret hunter2hunter2 was cut into two.
        (b"begin hunter2hunt", b"er2hunter2" + b"x" * 50, "begin |xxxx"),
        (b"begin hunter2hunter2", b"x" * 60, "begin |xxxx"),  # it may begin a second time
        (b"hunter2hunter2 begin", b"x" * 60, "******** begin|xxxx"),
        # A whole secret that crosses the end of what is dropped.
        (b"begin", b"x" * 50 + b"hunter2hunter2 end", "begin| end"),
    ],
)
def test_no_part_of_a_secret_is_left_where_output_was_omitted(
    first: bytes, last: bytes, text: str
) -> None:
    batch = make_batch(1)
    parts = [base64.b64encode(part).decode() for part in (first, last)]
    report(batch, 0, output={"stdout": (*parts, 100_000)})
    (run,) = batch.take_ended()
    stored = "".join(piece.text for piece in run.recorder.take(final=True).pieces)
    head, _, tail = stored.partition("\n… ")
    assert head + "|" + tail.partition(" …\n")[2] == text


def test_no_part_of_a_secret_is_left_where_an_error_was_cut_off() -> None:
    batch = make_batch(1)
    report(batch, 0, code=1, error="refused hunter2hunter2: hunter2hunt…")
    assert batch.take_ended()[0].outcome().error == "refused ********: …"


def test_secret_in_an_error_is_masked_although_the_warden_died() -> None:
    batch = make_batch(1)
    batch.status.feed(b'{"error": "refused hunter2hunter2"}\n')
    outcome = batch.outcome()
    assert (outcome.status, outcome.error) == (RunStatus.LOST, "refused ********")


def test_runs_in_progress_when_the_guard_died_are_executed_alone() -> None:
    batch = make_batch(6)
    report(batch, 0)
    batch.take_ended()
    die(batch, in_progress={2, 4})
    assert keys(batch.split()) == [[3], [5], [2, 4, 6]]


def test_runs_whose_results_were_lost_with_the_guard_are_executed_again() -> None:
    batch = make_batch(3)
    report(batch, 0)
    die(batch, in_progress=set())
    assert keys(batch.split()) == [[2, 3]]


def test_batch_whose_guard_is_killed_each_time_ends() -> None:
    batch = make_batch(3)
    for _ in range(3):
        die(batch, in_progress=set())
        (runs,) = batch.split()
        assert len(runs) == 3
        batch = RunningBatch(runs, Masker(), 8)
        batch.pipes.page = ProgressPage()
    die(batch, in_progress=set())
    assert batch.split() == []


def test_batch_that_could_not_be_loaded_is_executed_once_more() -> None:
    batch = make_batch(3)
    die(batch, set(), signal=None, code=127)
    (runs,) = batch.split()
    batch = RunningBatch(runs, Masker(), 8)
    batch.pipes.page = ProgressPage()
    die(batch, set(), signal=None, code=127)
    assert batch.split() == []


@pytest.mark.parametrize(
    ("number", "in_progress", "ending"),
    [
        (1, {0}, {}),  # it was alone already
        (3, {0}, {"signal": int(signal.SIGTERM)}),
        (3, {0}, {"reason": EndReason.STOPPED}),
        (3, {0}, {"reason": EndReason.LEASE_EXPIRED}),
        (3, {0}, {"reason": EndReason.ORPHANED}),
    ],
)
def test_batch_that_was_ended_on_purpose_is_not_executed_again(
    number: int, in_progress: set[int], ending: dict[str, Any]
) -> None:
    batch = make_batch(number)
    die(batch, in_progress, **ending)
    assert batch.split() == []
    for run in batch.unfinished():
        outcome = run.outcome()
        assert outcome.status != RunStatus.SUCCEEDED
        assert (outcome.seconds, outcome.cpu_seconds, run.payload) == (None, None, None)


def test_killed_warden_leaves_runs_that_are_executed_again() -> None:
    batch = make_batch(3)
    assert batch.pipes.page is not None
    BatchPage(batch.pipes.page.memory).begin(0, 1)
    batch.read_progress()
    assert keys(batch.split()) == [[2], [1, 3]]
    assert batch.runs[0].outcome().status == RunStatus.LOST


def test_shutdown_interrupts_what_has_no_result() -> None:
    batch = make_batch(2)
    report(batch, 0)
    batch.stop("Shutdown.", interrupted=True)
    die(batch, {1}, reason=EndReason.STOPPED)
    assert batch.split() == []
    done, broken = batch.runs
    assert done.outcome("Shutdown.").status == RunStatus.SUCCEEDED
    assert broken.outcome("Shutdown.").status == RunStatus.INTERRUPTED


def test_run_whose_own_lease_was_not_extended_is_ended() -> None:
    batch = make_batch(3)
    for run in batch.runs[:2]:
        batch.extend_run(run, 2000.0)
    batch.end_overdue(1500.0)
    assert batch.pipes.page is not None
    assert list(BatchPage(batch.pipes.page.memory).stopped()) == [2]
