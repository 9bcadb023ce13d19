"""What the process of a job does with its command, arguments and streams."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from chroniker.models import Run
from tests.factories import make_action_job, make_due_job
from tests.support.runs import stored_output
from tests.support.types import RunTick

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.one_database]


@pytest.mark.one_database
def test_output_is_not_written_into_files_the_job_opened(run_tick: RunTick, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    job = make_action_job(f"fail_with_own_files {mine}")
    run_tick()
    run = Run.objects.get(job=job)
    assert (run.status, run.exit_code) == ("failed", 1)
    assert "ValueError: boom" in stored_output(run, "stderr")
    assert mine.read_bytes() == b""


@pytest.mark.parametrize("name", ["no_such_command", "shell"])
def test_unknown_or_refused_command_fails_the_run_with_a_reason(
    run_tick: RunTick, name: str
) -> None:
    job = make_due_job(command=name)
    run_tick()
    run = Run.objects.get(job=job)
    assert run.status == "failed"
    assert repr(name) in run.error


def test_invalid_arguments_fail_with_the_parser_error(run_tick: RunTick) -> None:
    job = make_due_job(command="act", args="--nonsense")
    run_tick()
    run = Run.objects.get(job=job)
    assert run.status == "failed"
    assert "action" in run.error or "unrecognized" in run.error


def test_unbalanced_quote_fails_the_run_and_not_the_tick(run_tick: RunTick) -> None:
    bad, good = make_action_job("say 'open"), make_action_job("say fine")
    assert run_tick().exit_code == 0
    assert "quote" in Run.objects.get(job=bad).error
    assert Run.objects.get(job=good).status == "succeeded"


def test_traceback_starts_in_the_command(run_tick: RunTick) -> None:
    job = make_action_job("fail boom")
    run_tick()
    text = stored_output(Run.objects.get(job=job), "stderr")
    assert text.rstrip().endswith("ValueError: boom")
    assert "act.py" in text
    assert "chroniker/processes/child.py" not in text


class TestRawCommands:
    def test_raw_command_is_refused_unless_allowed(self, run_tick: RunTick) -> None:
        job = make_due_job(raw_command="/bin/echo hello")
        run_tick()
        run = Run.objects.get(job=job)
        assert run.status == "failed"
        assert "CHRONIKER_ALLOW_RAW_COMMANDS" in run.error

    def test_raw_command_runs_without_a_shell(self, run_tick: RunTick, settings: Any) -> None:
        settings.CHRONIKER_ALLOW_RAW_COMMANDS = True
        job = make_due_job(raw_command="echo 'a b' $HOME", args="; exit 3")
        run_tick()
        run = Run.objects.get(job=job)
        assert run.status == "succeeded"
        assert stored_output(run, "stdout") == "a b $HOME ; exit 3\n"

    def test_missing_program_is_reported(self, run_tick: RunTick, settings: Any) -> None:
        settings.CHRONIKER_ALLOW_RAW_COMMANDS = True
        job = make_due_job(raw_command="/no/such/program")
        run_tick()
        run = Run.objects.get(job=job)
        assert run.status == "failed"
        assert "No such file" in run.error

    @pytest.mark.one_database
    def test_closed_pipe_ends_a_program_as_in_a_shell(
        self, run_tick: RunTick, settings: Any
    ) -> None:
        settings.CHRONIKER_ALLOW_RAW_COMMANDS = True
        job = make_due_job(raw_command="sh -c 'yes | head -n 1'", stderr_is_failure=True)
        run_tick()
        run = Run.objects.get(job=job)
        assert (run.status, stored_output(run, "stderr")) == ("succeeded", "")
        assert stored_output(run, "stdout") == "y\n"

    def test_raw_command_reports_progress_by_lines(self, run_tick: RunTick, settings: Any) -> None:
        settings.CHRONIKER_ALLOW_RAW_COMMANDS = True
        script = 'for i in 1 2 3; do echo $i/7 >&"$CHRONIKER_PROGRESS_FD"; done'
        job = make_due_job(raw_command="bash -c", args=f"'{script}'")
        run_tick()
        run = Run.objects.get(job=job)
        assert (run.status, run.parts_done, run.parts_total) == ("succeeded", 3, 7)


def test_console_handler_of_the_site_is_not_stderr(run_tick: RunTick) -> None:
    handler = logging.StreamHandler()  # holds the original stderr, as a handler of LOGGING does
    logger = logging.getLogger("bookshop")
    logger.addHandler(handler)
    try:
        job = make_action_job("log rows imported", stderr_is_failure=True)
        run_tick()
    finally:
        logger.removeHandler(handler)
    run = Run.objects.get(job=job)
    assert run.status == "succeeded", run.error
    assert stored_output(run, "log").count("rows imported") == 1
    assert stored_output(run, "stderr") == ""
