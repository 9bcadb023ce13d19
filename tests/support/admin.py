"""Forms, addresses and actions of the admin."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from django.db.models import Model
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse


def monitor_admin_url(name: str, row: Any = None) -> str:
    return reverse(
        f"admin:chroniker_monitors_monitor_{name}", args=[row.pk] if row is not None else []
    )


def form_data(**fields: Any) -> dict[str, Any]:
    """The form data of a new monitor; ``fields`` overrides or, with None, removes values."""
    data = {
        "name": "disk of web1", "description": "", "enabled": "on", "schedule": "*/5 * * * *",
        "timezone": "UTC", "hostname": "", "probe_operator": ">", "probe_warning": "80",
        "probe_critical": "90", "probe_consecutive": "1", "probe_recovery": "1",
        "probe_timeout": "10", "probe_unit": "", "probe_sample_days": "31",
        "max_runs_kept": "100", "timeout_seconds": "", "memory_limit_mb": "", "priority": "0",
        "jitter_seconds": "0", "reminder_hours": "24", "email_on_failure": "on",
        "runbook_url": "", "team": "",
    } | fields  # fmt: skip
    return {name: value for name, value in data.items() if value is not None}


def admin_url(name: str, row: Any = None) -> str:
    return reverse(f"admin:chroniker_{name}", args=[row.pk] if row else [])


JOB_FORM = {
    "name": "a job", "description": "", "command": "noop", "args": "", "schedule": "",
    "timezone": "UTC", "enabled": "on", "hostname": "", "priority": "0", "max_retries": "0",
    "retry_delay_seconds": "60", "nice": "0", "jitter_seconds": "0", "log_stdout": "on",
    "log_stderr": "on", "failures_before_alert": "1", "alert_severity": "warning",
    "dependencies-TOTAL_FORMS": "0", "dependencies-INITIAL_FORMS": "0",
}  # fmt: skip


def post_action(
    client: Client, model: str, action: str, *rows: Model, follow: bool = True
) -> HttpResponse:
    """Post an action of a changelist for these rows, as the browser does."""
    return client.post(
        reverse(f"admin:chroniker_{model}_changelist"),
        {"action": action, "_selected_action": [row.pk for row in rows]},
        follow=follow,
    )


def gauge_data(path: Path, **fields: Any) -> dict[str, Any]:
    return form_data(**{"param_path": str(path / "gauge")} | fields)


def visible_text(response: Any) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.content.decode()))


def messages_of(response: Any) -> list[str]:
    return [str(message) for message in response.context["messages"]]
