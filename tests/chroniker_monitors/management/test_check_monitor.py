"""The ``check_monitor`` command at a shell prompt."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from chroniker_monitors.enums import Severity
from chroniker_monitors.models import MonitorState, Sample
from tests.factories import (
    make_gauge_monitor,
    make_job,
    monitor_state,
)
from tests.support.runs import run_check_monitor

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("outside_a_run")]


@pytest.mark.parametrize(
    ("gauge_text", "code", "line"),
    [
        ("50 calm", 0, "volts OK: 50 V, calm | value=50V;80;90"),
        ("85", 1, "volts WARNING: 85 V | value=85V;80;90"),
        ("95 hot | very\nhot", 2, "volts CRITICAL: 95 V, hot / very hot | value=95V;80;90"),
    ],
)
def test_output_and_exit_code_follow_nagios_plugins(
    tmp_path: Path, gauge_text: str, code: int, line: str
) -> None:
    make_gauge_monitor(tmp_path, gauge_text, name="volts")
    assert run_check_monitor("volts") == (code, line)


def test_failing_probe_is_unknown_and_not_zero(tmp_path: Path) -> None:
    monitor = make_gauge_monitor(tmp_path, "raise the wire is cut", name="volts")
    code, line = run_check_monitor("volts")
    assert code == 3
    assert line.startswith("volts UNKNOWN: ")
    assert "the wire is cut" in line
    assert "value=" not in line
    state = monitor_state(monitor)
    assert (state.severity, state.value) == (Severity.UNKNOWN, None)
    assert "the wire is cut" in state.error


@pytest.mark.parametrize("gauge_text", ["nan", "inf", "-inf"])
def test_value_that_is_not_a_number_is_unknown(tmp_path: Path, gauge_text: str) -> None:
    monitor = make_gauge_monitor(tmp_path, gauge_text, name="volts")
    assert run_check_monitor("volts")[0] == 3
    assert monitor_state(monitor).recent_values == [[None, 3]]


def test_invalid_parameters_are_unknown(tmp_path: Path) -> None:
    monitor = make_gauge_monitor(tmp_path, name="volts")
    monitor.probe.kind = "no_such_kind"
    monitor.probe.save()
    code, line = run_check_monitor("volts")
    assert code == 3
    assert "no_such_kind" in line


def test_unknown_monitor_exits_with_code_3() -> None:
    job = make_job(name="nightly")
    for arguments in (["nightly"], ["--job-id", str(job.pk)]):
        with pytest.raises(CommandError, match="There is no monitor") as refused:
            call_command("check_monitor", *arguments)
        assert refused.value.returncode == 3


def test_dry_run_records_nothing(tmp_path: Path) -> None:
    make_gauge_monitor(tmp_path, "95", name="volts")
    assert run_check_monitor("volts", "--dry-run")[0] == 2
    assert not MonitorState.objects.exists()
    assert not Sample.objects.exists()


# --- in a run ---
