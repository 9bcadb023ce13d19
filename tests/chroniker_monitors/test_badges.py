"""Badges show the state of a job to whoever has the address, and nothing else."""

from __future__ import annotations

from io import StringIO
from typing import Any
from uuid import uuid4
from xml.etree import ElementTree

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils.timezone import now

from chroniker.models import Job
from chroniker_monitors.badges import BadgeState, RenderedBadge, render
from chroniker_monitors.enums import Severity
from chroniker_monitors.models import Badge
from tests.factories import make_job, make_job_state, make_monitor, make_monitor_state

pytestmark = [pytest.mark.django_db, pytest.mark.one_database]


def badge(*words: str) -> str:
    out = StringIO()
    call_command("badge", *words, stdout=out)
    return out.getvalue().strip()


@pytest.mark.parametrize(
    ("fields", "state", "expected"),
    [
        ({"enabled": False}, {}, BadgeState.DISABLED),
        ({}, {}, BadgeState.NO_RUNS),
        ({}, {"last_ended_at": now()}, BadgeState.PASSING),
        ({}, {"last_ended_at": now(), "consecutive_failures": 1}, BadgeState.FAILING),
        ({}, {"last_ended_at": now(), "overdue_incident": True}, BadgeState.LATE),
    ],
)
def test_state_of_a_job(
    fields: dict[str, Any], state: dict[str, Any], expected: BadgeState
) -> None:
    job = make_job(**fields)
    make_job_state(job, **state)
    assert render(job).state is expected


def test_worst_placement_of_a_monitor_counts() -> None:
    monitor = make_monitor(hostname="*")
    for host, severity in (("a", Severity.OK), ("b", Severity.UNKNOWN), ("c", Severity.CRITICAL)):
        make_job_state(Job.objects.get(pk=monitor.pk), host=host)
        make_monitor_state(monitor, severity, host=host)
    assert render(monitor).state is BadgeState.CRITICAL
    monitor.monitor_states.filter(host="c").delete()
    assert render(monitor).state is BadgeState.UNKNOWN


def test_badge_is_off_until_created_and_can_be_revoked(client: Client, settings: Any) -> None:
    settings.CHRONIKER_SITE_URL = "https://www.example.com"
    job = make_job(name="import")
    assert client.get(f"/badge/{uuid4()}.svg").status_code == 404
    address = badge("import")
    assert address.startswith("https://www.example.com/badge/") and address.endswith(".svg")
    assert badge(str(job.pk)) == address  # a second call creates no second one
    path = address.removeprefix("https://www.example.com")
    found = client.get(path)
    assert (found.status_code, found["Content-Type"]) == (200, "image/svg+xml; charset=utf-8")
    assert found["Content-Security-Policy"] == "default-src 'none'"
    assert client.get(path.replace(".svg", ".json")).json() == {
        "schemaVersion": 1, "label": "import", "message": "no runs yet", "color": "#5d5d5d",
        "cacheSeconds": 60,
    }  # fmt: skip
    assert client.post(path).status_code == 405
    assert badge("import", "--revoke") == "Its address is no longer valid."
    assert client.get(path).status_code == 404
    assert badge("import", "--revoke") == "It had no badge."
    assert badge("import") != address
    job.delete()
    assert not Badge.objects.exists()
    with pytest.raises(CommandError, match="no job nothing"):
        badge("nothing")


@pytest.mark.parametrize("name", ["a", "<script>alert(1)</script>", 'a"b&c', "計画", "x" * 200])
def test_any_name_gives_an_image_without_markup_of_its_own(name: str) -> None:
    root = ElementTree.fromstring(RenderedBadge(name, BadgeState.PASSING).as_svg())
    texts = [element.text for element in root.iter() if element.tag.endswith("}text")]
    assert texts == [name, "passing"]
    assert {element.tag.rpartition("}")[2] for element in root.iter()} == {
        "svg", "title", "rect", "g", "text",
    }  # fmt: skip


def test_control_characters_of_a_name_are_replaced() -> None:
    assert render(make_job(name="a\x01b\u202ec")).label == "a?b?c"


def test_number_of_queries_is_constant(client: Client, django_assert_num_queries: Any) -> None:
    monitor = make_monitor()
    make_job_state(Job.objects.get(pk=monitor.pk))
    path = badge(monitor.name)
    with django_assert_num_queries(3):
        client.get(path)
