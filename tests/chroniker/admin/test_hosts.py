"""The list of hosts, and pausing a host."""

from __future__ import annotations

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from chroniker.models import Host
from tests.factories import make_job, make_running, minutes_from_now
from tests.support.admin import admin_url
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
