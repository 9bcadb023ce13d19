"""The list of hosts, and pausing a host."""

from __future__ import annotations

import html

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from chroniker.models import Host
from tests.factories import make_job, make_running, minutes_from_now
from tests.support.admin import admin_url, post_action
from tests.support.types import SignIn

pytestmark = pytest.mark.django_db


def test_list_shows_last_tick_and_running_jobs(root: Client) -> None:
    Host.objects.create(
        name="web1", last_tick_at=minutes_from_now(-0.5), tick_seconds=0.18, version="1.2.3"
    )
    Host.objects.create(name="web2", last_tick_at=minutes_from_now(-30))
    Host.objects.create(name="web3", paused=True)
    Host.objects.create(name="web4")
    for _ in range(2):
        make_running(make_job(), lease_host="web1")
    answer = root.get("/admin/chroniker/host/?o=5.1")
    text = answer.content.decode().replace("\xa0", " ")
    for word in ("ticking", "silent", "paused", "0.18 s", "1.2.3", "30 minutes ago"):
        assert word in text
    assert {h.name: h.running_jobs for h in answer.context["cl"].result_list} == {
        "web1": 2, "web2": 0, "web3": 0, "web4": 0,
    }  # fmt: skip


def test_pausing_writes_nothing_else(root: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tick writes the row between the read and the write of the form."""
    host = Host.objects.create(name="web1", version="1", claims=1)
    from chroniker.admin.hosts import HostAdmin

    original = HostAdmin.save_form

    def save_form(self: HostAdmin, *args: object, **kwargs: object) -> object:
        Host.objects.filter(pk=host.pk).update(
            version="2", claims=7, last_tick_at=minutes_from_now(0)
        )
        return original(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(HostAdmin, "save_form", save_form)
    form = {"paused": "on", "name": "evil", "version": "evil", "claims": "0"}
    assert root.post(admin_url("host_change", host), form).status_code == 302
    host.refresh_from_db()
    assert (host.paused, host.name, host.version, host.claims) == (True, "web1", "2", 7)
    assert host.last_tick_at is not None
    assert "Paused" in LogEntry.objects.get().get_change_message()


def test_pausing_needs_the_permission(sign_in: SignIn) -> None:
    host = Host.objects.create(name="web1")
    url = admin_url("host_change", host)
    assert sign_in("view_host").post(url, {"paused": "on"}).status_code == 403
    assert sign_in("change_host").post(url, {"paused": "on"}).status_code == 302
    host.refresh_from_db()
    assert host.paused


def test_retiring_is_logged_and_leaves_the_list(root: Client) -> None:
    make_job(hostname="web1")
    host = Host.objects.create(name="web1", last_tick_at=minutes_from_now(-1))
    answer = post_action(root, "host", "retire", host)
    text = html.unescape(answer.content.decode())
    assert "1 host retired." in text
    assert "Host web1 has just ticked" in text
    assert LogEntry.objects.get().get_change_message() == "Retired."
    url = admin_url("host_changelist")
    assert not root.get(url).context["cl"].result_list
    answer = root.get(url, {"retired": "yes"})
    assert [row.name for row in answer.context["cl"].result_list] == ["web1"]
    assert "retired" in root.get(admin_url("host_change", host)).content.decode()


def test_retiring_is_refused_while_runs_are_running(root: Client) -> None:
    host = Host.objects.create(name="web1")
    make_running(make_job(), lease_host="web1")
    answer = post_action(root, "host", "retire", host)
    assert "Host web1 owns running runs (1)" in answer.content.decode()
    host.refresh_from_db()
    assert host.retired_at is None


def test_retiring_needs_its_permission_post_and_token(sign_in: SignIn) -> None:
    host = Host.objects.create(name="web1")
    url = admin_url("host_changelist")
    form = {"action": "retire", "_selected_action": [host.pk]}
    sign_in("view_host", "change_host").post(url, form)
    sign_in("view_host", "retire_host").get(url, form)
    assert sign_in("view_host", "retire_host", csrf=True).post(url, form).status_code == 403
    host.refresh_from_db()
    assert host.retired_at is None
    sign_in("view_host", "retire_host").post(url, form)
    host.refresh_from_db()
    assert host.retired_at is not None


def test_hosts_are_not_deleted_by_hand(root: Client) -> None:
    host = Host.objects.create(name="web1")
    assert root.post(admin_url("host_delete", host), {"post": "yes"}).status_code == 403
