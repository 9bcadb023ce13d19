"""The board, the forms and the page of one monitor, with their permissions."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.core.management import call_command
from django.db import connection
from django.db.models import JSONField, Value
from django.test import Client
from django.utils.timezone import now as utc_now

from chroniker.models import Job, JobState, Maintenance
from chroniker_monitors.enums import Severity
from chroniker_monitors.models import Monitor, MonitorState, Probe, Sample
from tests.factories import (
    make_gauge_monitor,
    make_heartbeat_monitor,
    make_job,
    make_monitor,
    make_monitor_state,
)
from tests.support.admin import form_data, gauge_data, messages_of, monitor_admin_url, visible_text
from tests.support.types import SignIn

pytestmark = [pytest.mark.django_db, pytest.mark.one_database]


# --- the board ---


def test_board_shows_state_of_each_monitor(root: Client) -> None:
    make_monitor_state(
        make_monitor(name="hot"), Severity.CRITICAL, value=95.5, message="<b>hot</b>", unit="V"
    )
    make_monitor(name="new")
    make_job(name="no monitor")
    page = root.get(monitor_admin_url("changelist"))
    shown = visible_text(page)
    assert "critical" in shown
    assert "95.5 V" in shown
    assert "warning &gt; 80 V" in shown
    assert "&lt;b&gt;hot&lt;/b&gt;" in shown
    assert "no sample yet" in shown
    assert "no monitor" not in shown
    assert b"<polyline" in page.content
    assert b"style=" not in re.sub(rb"<header.*?</header>", b"", page.content, flags=re.S)


def test_board_says_which_monitors_are_muted(root: Client) -> None:
    muted = make_monitor(name="quiet")
    make_monitor_state(muted, Severity.CRITICAL, value=95.5)
    make_monitor(name="loud")
    now = utc_now()
    window = Maintenance.objects.create(
        starts_at=now - timedelta(hours=1), ends_at=now + timedelta(hours=1)
    )
    window.jobs.add(muted)
    assert visible_text(root.get(monitor_admin_url("changelist"))).count("muted") == 1


def test_worst_severity_is_listed_first(root: Client) -> None:
    for name, severity in (
        ("a", Severity.OK), ("b", Severity.WARNING), ("c", Severity.UNKNOWN),
        ("d", Severity.CRITICAL),
    ):  # fmt: skip
        make_monitor_state(make_monitor(name=name), severity)
    make_monitor(name="e")
    shown = [m.name for m in root.get(monitor_admin_url("changelist")).context["cl"].result_list]
    assert shown == ["d", "c", "b", "a", "e"]
    by_name = root.get(monitor_admin_url("changelist"), {"o": "1"})
    assert [m.name for m in by_name.context["cl"].result_list] == ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({"state": "critical"}, {"hot"}),
        ({"state": "bad"}, {"hot"}),
        ({"state": "ok"}, {"cold"}),
        ({"state": "none"}, {"new"}),
        ({"state": "nonsense"}, {"hot", "cold", "new"}),
        ({"kind": "test_gauge"}, {"hot", "new"}),
        ({"kind": "disk"}, {"cold"}),
        ({"q": "hot"}, {"hot"}),
        ({"q": "disk"}, {"cold"}),
    ],
)
def test_board_can_be_filtered(root: Client, query: dict[str, str], names: set[str]) -> None:
    make_monitor_state(make_monitor(name="hot"), Severity.CRITICAL)
    make_monitor_state(make_monitor("disk", name="cold"))
    make_monitor(name="new")
    page = root.get(monitor_admin_url("changelist"), query)
    assert {monitor.name for monitor in page.context["cl"].result_list} == names


def test_board_query_count_is_constant(root: Client, django_assert_num_queries: Any) -> None:
    from django.test.utils import CaptureQueriesContext

    def number() -> int:
        with CaptureQueriesContext(
            connection,
        ) as queries:
            assert root.get(monitor_admin_url("changelist")).status_code == 200
        return len(queries)

    make_monitor_state(make_monitor(), Severity.CRITICAL)
    number()
    before = number()
    for _ in range(10):
        make_monitor_state(make_monitor(), Severity.WARNING)
    assert number() == before


def test_board_counts_current_hosts_only(root: Client) -> None:
    monitor = make_monitor(hostname="*")
    make_monitor_state(monitor, Severity.CRITICAL)  # a placement from when it ran on any host
    make_monitor_state(monitor, Severity.OK, host="web1")
    make_monitor_state(monitor, Severity.WARNING, host="web2")
    page = root.get(monitor_admin_url("changelist"))
    assert "on web2" in visible_text(page)
    assert (
        not root.get(monitor_admin_url("changelist"), {"state": "critical"})
        .context["cl"]
        .result_list
    )


def test_pending_state_shows_its_streak(root: Client) -> None:
    monitor = make_monitor(consecutive=3)
    make_monitor_state(
        monitor, measured_severity=Severity.CRITICAL, warning_streak=2, critical_streak=1
    )
    assert "2 of 3 worse samples" in visible_text(root.get(monitor_admin_url("changelist")))


@pytest.mark.parametrize("unit", ["", "s", "bytes"])
@pytest.mark.parametrize("bound", [math.inf, -math.inf, 1e308])
def test_invalid_threshold_does_not_break_the_board(root: Client, unit: str, bound: float) -> None:
    if connection.vendor == "mysql" and math.isinf(bound):
        return  # not a valid number for this field
    monitor = make_monitor(unit=unit)
    Probe.objects.update(critical=bound)
    make_monitor_state(monitor, value=bound / 2 if math.isfinite(bound) else 1.0)
    page = root.get(monitor_admin_url("changelist"))
    assert len(max(visible_text(page).split(), key=len)) < 100
    assert root.get(monitor_admin_url("change", monitor)).status_code == 200


@pytest.mark.parametrize("bound", ["nan", "inf", "-inf", "1e999"])
def test_threshold_is_a_finite_number(root: Client, tmp_path: Path, bound: str) -> None:
    page = root.post(
        f"{monitor_admin_url('add')}?kind=test_gauge", gauge_data(tmp_path, probe_critical=bound)
    )
    assert "probe_critical" in page.context["adminform"].form.errors


@pytest.mark.parametrize("name", ["run_now", "stop", "enable", "disable"])
def test_actions_are_those_of_jobs(root: Client, name: str) -> None:
    monitor = make_monitor(enabled=name == "disable")
    root.post(monitor_admin_url("changelist"), {"action": name, "_selected_action": [monitor.pk]})
    monitor.refresh_from_db()
    if name == "run_now":
        assert JobState.objects.get(job=monitor.pk).run_requested_at is not None
    elif name != "stop":
        assert monitor.enabled == (name == "enable")
        assert LogEntry.objects.count() == 1


def test_chart_is_the_same_in_a_locale_with_decimal_commas(root: Client, settings: Any) -> None:
    make_monitor_state(make_monitor(), recent_values=[[1.25, 0], [2.5, 2]])
    plain = re.findall(
        r"<svg.*?</svg>", root.get(monitor_admin_url("changelist")).content.decode(), re.S
    )
    settings.LANGUAGE_CODE = "de"
    german = re.findall(
        r"<svg.*?</svg>", root.get(monitor_admin_url("changelist")).content.decode(), re.S
    )
    points = [re.findall(r'(?:points|c[xy])="([^"]*)"', "".join(svg)) for svg in (plain, german)]
    assert points[0] == points[1] != []


# --- defining one ---


def test_kind_is_chosen_before_the_form(root: Client) -> None:
    kinds = root.get(monitor_admin_url("add"))
    assert b'href="?kind=disk"' in kinds.content
    form = root.get(monitor_admin_url("add"), {"kind": "disk"}).context["adminform"].form
    assert {name for name in form.fields if name.startswith("param_")} >= {"param_path"}
    assert "params" not in form.fields


def test_unknown_kind_is_rejected(root: Client) -> None:
    page = root.get(monitor_admin_url("add"), {"kind": "<b>"})
    assert page.status_code == 404
    assert b"<b>" not in page.content.partition(b"errornote")[2]
    assert root.post(f"{monitor_admin_url('add')}?kind=nonsense", form_data()).status_code == 404
    assert not Job.objects.exists()


def test_sql_is_not_offered_where_the_site_has_it_off(root: Client, settings: Any) -> None:
    settings.CHRONIKER_MONITORS_SQL_ALIAS = ""
    assert b'href="?kind=sql"' not in root.get(monitor_admin_url("add")).content
    page = root.get(monitor_admin_url("add"), {"kind": "sql"})
    assert page.status_code == 404
    assert "CHRONIKER_MONITORS_SQL_ALIAS" in visible_text(page)
    settings.CHRONIKER_MONITORS_SQL_ALIAS = "default"
    assert b'href="?kind=sql"' in root.get(monitor_admin_url("add")).content


def test_factor_of_unusual_values_widens(root: Client, tmp_path: Path) -> None:
    data = gauge_data(tmp_path, probe_operator="unusual", probe_warning="0.5", probe_critical="4")
    page = root.post(f"{monitor_admin_url('add')}?kind=test_gauge", data)
    assert "at least 1" in str(page.context["adminform"].form.errors["probe_warning"])
    short = data | {"probe_warning": "2", "probe_sample_days": "7"}
    page = root.post(f"{monitor_admin_url('add')}?kind=test_gauge", short)
    assert "22 days" in str(page.context["adminform"].form.errors["probe_sample_days"])
    root.post(f"{monitor_admin_url('add')}?kind=test_gauge", data | {"probe_warning": "2"})
    probe = Probe.objects.get()
    assert (probe.operator, probe.warning, probe.critical) == ("unusual", 2, 4)


def test_group_is_checked_at_its_field(root: Client) -> None:
    data = form_data(
        param_model="chroniker.Run", param_measure="count", param_group_by="scheduled_for",
        probe_warning="", probe_critical="",
    )  # fmt: skip
    page = root.post(f"{monitor_admin_url('add')}?kind=records", data)
    assert "cannot be used" in str(page.context["adminform"].form.errors["param_group_by"])
    root.post(f"{monitor_admin_url('add')}?kind=records", data | {"param_group_by": "status"})
    assert Probe.objects.get().params["group_by"] == "status"


def test_monitor_is_created(root: Client, tmp_path: Path) -> None:
    response = root.post(
        f"{monitor_admin_url('add')}?kind=test_gauge",
        gauge_data(tmp_path, probe_unit="V"),
        follow=True,
    )
    assert "was added successfully" in messages_of(response)[0]
    monitor = Monitor.objects.get()
    assert (monitor.command, monitor.args) == ("check_monitor", f"--job-id {monitor.pk}")
    assert monitor.timeout_seconds == 30
    probe = monitor.probe
    assert (probe.kind, probe.params) == ("test_gauge", {"path": str(tmp_path / "gauge")})
    assert (probe.operator, probe.warning, probe.critical) == (">", 80, 90)
    assert (probe.unit, probe.ping_uuid) == ("V", None)


def test_changing_a_monitor_keeps_its_state(root: Client, tmp_path: Path) -> None:
    monitor = make_gauge_monitor(tmp_path, consecutive=2)
    make_monitor_state(monitor, Severity.CRITICAL)
    data = gauge_data(tmp_path, name="renamed", probe_critical="", probe_operator="<",
                      probe_warning="3", probe_recovery="4")  # fmt: skip
    root.post(monitor_admin_url("change", monitor), data)
    monitor = Monitor.objects.get()
    assert (monitor.name, monitor.args) == ("renamed", f"--job-id {monitor.pk}")
    probe = monitor.probe
    assert (probe.operator, probe.warning, probe.critical) == ("<", 3, None)
    assert (probe.consecutive, probe.recovery) == (1, 4)
    assert MonitorState.objects.get().severity == Severity.CRITICAL


def test_longer_probe_timeout_extends_the_timeout_of_the_run(root: Client, tmp_path: Path) -> None:
    monitor = make_gauge_monitor(tmp_path)
    assert monitor.timeout_seconds == 30
    data = gauge_data(tmp_path, probe_timeout="90", timeout_seconds="30")
    root.post(monitor_admin_url("change", monitor), data)
    assert Monitor.objects.get().timeout_seconds == 110
    root.post(monitor_admin_url("change", monitor), data | {"timeout_seconds": "100"})
    assert Monitor.objects.get().timeout_seconds == 100


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("param_path", "", "required"),
        ("schedule", "61 * * * *", "61"),
        ("probe_warning", "95", "warning would never occur"),
        ("probe_warning", "x", "number"),
        ("probe_consecutive", "0", "greater than or equal to 1"),
        ("probe_operator", "; DROP", "not one of the available choices"),
        ("probe_timeout", "0", "greater than or equal"),
        ("name", "", "required"),
    ],
)
def test_invalid_value_is_reported_at_its_field(
    root: Client, tmp_path: Path, field: str, value: str, said: str
) -> None:
    page = root.post(
        f"{monitor_admin_url('add')}?kind=test_gauge", gauge_data(tmp_path, **{field: value})
    )
    assert page.status_code == 200
    assert said in str(page.context["adminform"].form.errors[field])
    assert not Job.objects.exists()


def test_invalid_parameter_is_reported_at_its_field(root: Client) -> None:
    page = root.post(
        f"{monitor_admin_url('add')}?kind=disk", form_data(param_path="/", param_measure="colour")
    )
    assert page.status_code == 200
    assert "param_measure" in page.context["adminform"].form.errors
    assert not Job.objects.exists()


def test_disallowed_check_monitor_is_reported(root: Client, tmp_path: Path, settings: Any) -> None:
    settings.CHRONIKER_ALLOWED_COMMANDS = ["noop"]
    page = root.post(f"{monitor_admin_url('add')}?kind=test_gauge", gauge_data(tmp_path))
    assert "CHRONIKER_ALLOWED_COMMANDS" in str(page.context["adminform"].form.non_field_errors())


def test_heartbeat_gets_url_and_threshold(root: Client, settings: Any) -> None:
    settings.CHRONIKER_SITE_URL = ""
    data = form_data(param_period_seconds="3600", param_grace_seconds="600", probe_warning="")
    root.post(f"{monitor_admin_url('add')}?kind=heartbeat", data)
    probe = Probe.objects.get()
    assert (probe.operator, probe.critical) == (">", 4200)
    page = root.get(monitor_admin_url("change", Monitor.objects.get()))
    assert f"<code>/ping/{probe.ping_uuid}/</code>" in page.content.decode()
    settings.CHRONIKER_SITE_URL = "https://shop.example/"
    page = root.get(monitor_admin_url("change", Monitor.objects.get()))
    assert f"<code>https://shop.example/ping/{probe.ping_uuid}/</code>" in page.content.decode()
    assert b'name="_test"' not in page.content
    root.post(monitor_admin_url("change", Monitor.objects.get()), data)
    assert Probe.objects.get().ping_uuid == probe.ping_uuid


def test_heartbeat_without_a_schedule_is_rejected(root: Client) -> None:
    page = root.post(
        f"{monitor_admin_url('add')}?kind=heartbeat", form_data(schedule="", probe_warning="")
    )
    assert "schedule" in page.context["adminform"].form.errors


# --- the page of one ---


@pytest.mark.parametrize("span", ["", "hour", "day", "week", "month", "nonsense"])
def test_its_chart_shows_values_and_thresholds(root: Client, span: str) -> None:
    monitor = make_monitor()
    make_monitor_state(monitor, Severity.CRITICAL, value=95.0, unit="V")
    now = utc_now()
    Sample.objects.bulk_create(
        Sample(
            job_id=monitor.pk, at=now - timedelta(minutes=(2 if span == "hour" else 7) * n),
            value=None if n == 20 else 60 + n % 35, severity=3 if n == 20 else 0,
        )
        for n in range(200)
    )  # fmt: skip
    page = root.get(monitor_admin_url("change", monitor), {"span": span} if span else {})
    assert page.status_code == 200
    svg = re.findall(r"<svg class=\"chroniker-chart.*?</svg>", page.content.decode(), re.S)[0]
    assert "chroniker-threshold-warning" in svg
    assert "chroniker-threshold-critical" in svg
    assert "<polyline" in svg
    assert "chroniker-mark-unknown" in svg
    assert 'role="img"' in svg
    assert "<title" in svg
    assert "style=" not in svg
    assert b"<caption" in page.content or b"<details>" in page.content


def test_page_without_samples_says_so(root: Client) -> None:
    monitor = make_monitor()
    assert "No sample yet" in visible_text(root.get(monitor_admin_url("change", monitor)))
    make_monitor_state(monitor)
    assert "Nothing was measured within the last day" in visible_text(
        root.get(monitor_admin_url("change", monitor))
    )


def test_ping_body_is_escaped(root: Client, client: Client) -> None:
    monitor = make_heartbeat_monitor()
    client.post(f"/ping/{monitor.probe.ping_uuid}/3", b"<script>alert(1)</script>", "text/plain")
    page = root.get(monitor_admin_url("change", monitor))
    assert b"&lt;script&gt;alert(1)" in page.content
    assert b"<script>alert(1)" not in page.content


@pytest.mark.parametrize("params", [[1], 5, "x", None, {"path": 5}, {"path": "/x", "y": 1}])
def test_invalid_stored_parameters_can_be_viewed_and_fixed(
    root: Client, sign_in: SignIn, tmp_path: Path, params: Any
) -> None:
    monitor = make_gauge_monitor(tmp_path)
    Probe.objects.update(params=Value(params, JSONField()))
    with pytest.raises(SystemExit) as ended:
        call_command("check_monitor", monitor.name, stdout=StringIO())
    assert ended.value.code == 3
    for client in (root, sign_in("view_monitor")):
        for url in (monitor_admin_url("changelist"), monitor_admin_url("change", monitor)):
            assert client.get(url).status_code == 200
    root.post(monitor_admin_url("change", monitor), gauge_data(tmp_path))
    assert Probe.objects.get().params == {"path": str(tmp_path / "gauge")}


EVIL = '"><script>alert(1)</script>'

SHORT_EVIL = "<b onclick=x>"


def test_stored_texts_are_escaped(root: Client, sign_in: SignIn) -> None:
    monitor = make_monitor(
        name=f"name {EVIL}", description=EVIL, unit=SHORT_EVIL, hostname="*",
        params={"path": f"/{EVIL}"},
    )  # fmt: skip
    for host, error in ((SHORT_EVIL, EVIL), ("web1", "")):
        state = make_monitor_state(monitor, Severity.CRITICAL, host=host, message=EVIL, error=error)
        Sample.objects.create(
            job_id=monitor.pk, host=state.host, at=utc_now(), value=95, severity=2, message=EVIL
        )
    viewer = sign_in("view_monitor")
    pages = [
        client.get(url)
        for client in (root, viewer)
        for url in (
            monitor_admin_url("changelist"),
            monitor_admin_url("change", monitor),
            monitor_admin_url("history", monitor),
        )
    ]
    pages += [
        root.get(monitor_admin_url("delete", monitor)),
        root.get(monitor_admin_url("add"), {"kind": EVIL}),
    ]
    pages.append(root.post(monitor_admin_url("change", monitor), form_data(name=EVIL, unit=EVIL)))
    pages.append(
        root.get(monitor_admin_url("changelist"), {"q": EVIL, "state": EVIL, "kind": EVIL})
    )
    for page in pages:
        shown = page.content.decode()
        assert "<script>alert" not in shown
        assert "<b onclick" not in shown
    assert "&lt;script&gt;alert(1)" in pages[0].content.decode()


def test_monitor_of_a_removed_kind_can_be_viewed_and_deleted(root: Client) -> None:
    monitor = make_monitor()
    Probe.objects.update(kind="gone")
    assert "gone" in visible_text(root.get(monitor_admin_url("changelist")))
    assert root.get(monitor_admin_url("change", monitor)).status_code == 200
    root.post(monitor_admin_url("delete", monitor), {"post": "yes"})
    assert not Job.objects.exists()


# --- who may do what ---


@pytest.mark.parametrize(
    ("name", "permission"),
    [
        ("changelist", "view_monitor"),
        ("add", "add_monitor"),
        ("change", "view_monitor"),
        ("delete", "delete_monitor"),
        ("history", "view_monitor"),
        ("preview", "add_monitor"),
    ],
)
def test_each_monitor_page_requires_its_permission(
    sign_in: SignIn, name: str, permission: str
) -> None:
    row = make_monitor() if name in ("change", "delete", "history") else None
    assert (
        sign_in("view_job", "add_job", "change_job").get(monitor_admin_url(name, row)).status_code
        == 403
    )
    assert sign_in(permission).get(monitor_admin_url(name, row)).status_code == 200
    assert Client().get(monitor_admin_url(name, row)).status_code == 302


def test_viewer_sees_the_definition_and_changes_nothing(sign_in: SignIn, tmp_path: Path) -> None:
    monitor = make_gauge_monitor(tmp_path)
    viewer = sign_in("view_monitor")
    page = viewer.get(monitor_admin_url("change", monitor))
    assert str(tmp_path / "gauge") in visible_text(page)
    assert b'name="param_path"' not in page.content
    assert b'name="_test"' not in page.content
    for extra in ({}, {"_test": "1"}):
        answer = viewer.post(
            monitor_admin_url("change", monitor), gauge_data(tmp_path, name="x", **extra)
        )
        assert answer.status_code == 403
    assert viewer.post(monitor_admin_url("run", monitor)).status_code == 403
    assert not JobState.objects.exists()
    assert Monitor.objects.get().name == monitor.name


def test_sql_needs_a_permission_of_its_own(sign_in: SignIn, settings: Any) -> None:
    settings.CHRONIKER_MONITORS_SQL_ALIAS = "default"
    monitor = make_monitor()
    Probe.objects.update(kind="sql", params={})
    url = f"{monitor_admin_url('add')}?kind=sql"
    keeper = sign_in("view_monitor", "add_monitor", "change_monitor", "delete_monitor")
    assert b"kind=sql" not in keeper.get(monitor_admin_url("add")).content
    assert keeper.get(url).status_code == 403
    assert keeper.post(url, form_data(_test="1")).status_code == 403
    assert keeper.get(monitor_admin_url("change", monitor)).status_code == 200
    for extra in ({}, {"_test": "1"}):
        assert (
            keeper.post(monitor_admin_url("change", monitor), form_data(**extra)).status_code == 403
        )
    keeper.post(
        monitor_admin_url("changelist"), {"action": "disable", "_selected_action": [monitor.pk]}
    )
    assert Monitor.objects.get().enabled
    assert keeper.post(monitor_admin_url("delete", monitor), {"post": "yes"}).status_code == 403
    trusted = sign_in("view_monitor", "add_monitor", "change_monitor", "use_sql_probe")
    assert b"kind=sql" in trusted.get(monitor_admin_url("add")).content
    assert trusted.get(url).status_code == 200


def test_command_probe_requires_permission_to_add_jobs(sign_in: SignIn) -> None:
    """Otherwise "Test now" would run any command for users who may run nothing."""
    url = f"{monitor_admin_url('add')}?kind=command"
    data = form_data(param_command="check", param_mode="stderr", _test="1")
    keeper = sign_in("add_monitor", "change_monitor")
    assert b"kind=command" not in keeper.get(monitor_admin_url("add")).content
    assert keeper.post(url, data).status_code == 403
    monitor = make_monitor("command", params={"command": "check"})
    assert keeper.post(monitor_admin_url("change", monitor), data).status_code == 403
    trusted = sign_in("add_monitor", "add_job")
    assert b"kind=command" in trusted.get(monitor_admin_url("add")).content
    assert trusted.get(url).status_code == 200


SECRET_PAGE = {
    "param_url": "https://shop.example.com/health", "param_headers": "", "param_method": "GET",
    "param_measure": "latency", "param_expected_status": "200-299", "param_max_redirects": "5",
}  # fmt: skip


@pytest.mark.parametrize("test", [{}, {"_test": "1"}])
def test_secret_is_not_sent_to_another_host(sign_in: SignIn, test: dict[str, str]) -> None:
    """Users who may change a monitor must not learn its secrets."""
    headers = "Authorization: Bearer hunter2"
    url = "https://shop.example.com/"
    monitor = make_monitor("http", params={"url": url, "headers": headers})
    keeper = sign_in("view_monitor", "change_monitor")
    elsewhere = form_data(**SECRET_PAGE, **test) | {"param_url": "https://evil.example.net/"}
    page = keeper.post(monitor_admin_url("change", monitor), elsewhere)
    assert "another host" in str(page.context["adminform"].form.errors["param_headers"])
    assert "hunter2" not in page.content.decode()
    assert Probe.objects.get().params == {"url": url, "headers": headers}


def test_secret_is_kept_only_for_its_host(sign_in: SignIn) -> None:
    headers = "Authorization: Bearer hunter2"
    params = {"url": "https://shop.example.com/", "headers": headers}
    monitor = make_monitor("http", params=params)
    keeper = sign_in("view_monitor", "change_monitor")
    keeper.post(monitor_admin_url("change", monitor), form_data(**SECRET_PAGE))
    found = Probe.objects.get().params
    assert (found["url"], found["headers"]) == ("https://shop.example.com/health", headers)
    other = {"param_url": "https://new.example.net/", "param_headers": "X-Key: 1"}
    keeper.post(monitor_admin_url("change", monitor), form_data(**SECRET_PAGE) | other)
    found = Probe.objects.get().params
    assert (found["url"], found["headers"]) == ("https://new.example.net/", "X-Key: 1")


def test_deleting_a_monitor_deletes_its_history(root: Client) -> None:
    monitor = make_monitor()
    make_monitor_state(monitor)
    Sample.objects.create(job_id=monitor.pk, at=utc_now(), severity=0)
    page = root.get(monitor_admin_url("delete", monitor))
    assert "samples" in visible_text(page).lower()
    root.post(monitor_admin_url("delete", monitor), {"post": "yes"})
    assert not (Job.objects.exists() or Sample.objects.exists() or MonitorState.objects.exists())


def test_model_fields_require_permission_to_define_monitors(sign_in: SignIn) -> None:
    assert sign_in("view_monitor").get(monitor_admin_url("fields")).status_code == 403
    keeper = sign_in("add_monitor")
    assert keeper.post(monitor_admin_url("fields")).status_code == 405
    for refused in ("", "nonsense", "auth.User", "sessions.Session", "a.b.c"):
        found = keeper.get(monitor_admin_url("fields"), {"model": refused}).json()
        assert found == {"fields": [], "groups": []}
    found = keeper.get(monitor_admin_url("fields"), {"model": "chroniker.Run"}).json()
    assert {"status", "ended_at"} <= set(found["fields"])
    assert "status" in found["groups"]
    assert "ended_at" not in found["groups"]
    page = keeper.get(monitor_admin_url("add"), {"kind": "records"})
    assert monitor_admin_url("fields") in page.content.decode()
    assert b'list="chroniker-fields"' in page.content


def test_nothing_is_loaded_from_another_host(root: Client) -> None:
    monitor = make_monitor()
    make_monitor_state(monitor)
    for url in (
        monitor_admin_url("changelist"),
        monitor_admin_url("add"),
        monitor_admin_url("change", monitor),
    ):
        page = root.get(url).content.decode()
        assert not re.findall(r'(?:src|href)="(?:https?:)?//', page)
