"""Badges in the admin: whoever may see them finds and revokes them."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse

from chroniker_monitors.models import Badge
from tests.factories import make_job, make_monitor
from tests.support.admin import messages_of, visible_text
from tests.support.types import AssertNumQueries, SignIn

pytestmark = [pytest.mark.django_db, pytest.mark.one_database]

LIST = "/admin/chroniker_monitors/badge/"


def url(view: str, badge: Badge) -> str:
    return reverse(f"admin:chroniker_monitors_badge_{view}", args=[badge.pk])


def test_list_shows_addresses_with_a_constant_number_of_queries(
    root: Client, settings: Any, django_assert_num_queries: AssertNumQueries
) -> None:
    settings.CHRONIKER_SITE_URL = "https://www.example.com"
    assert "No badges." in visible_text(root.get(LIST))
    for number in range(3):
        badge = Badge.objects.create(job=make_job(name=f"job {number}"))
    text = visible_text(root.get(LIST))
    assert f"https://www.example.com/badge/{badge.address}.svg" in text
    with django_assert_num_queries(6):
        root.get(LIST)
    Badge.objects.create(job_id=make_monitor().pk)
    with django_assert_num_queries(6):
        root.get(LIST)


def test_page_shows_the_badge_and_snippets(root: Client) -> None:
    badge = Badge.objects.create(job=make_job(name="a [b] <c>"))
    text = root.get(url("change", badge)).content.decode()
    assert f'<img src="/badge/{badge.address}.svg" alt="a [b] &lt;c&gt;">' in text
    assert f"![a (b) &lt;c&gt;](/badge/{badge.address}.svg)" in text
    assert f"/badge/{badge.address}.json" in text
    assert 'name="_save"' not in text


def test_badge_is_created_and_revoked(root: Client) -> None:
    job = make_job()
    assert root.post(f"{LIST}add/", {"job": job.pk}).status_code == 302
    badge = Badge.objects.get()
    assert root.get(f"/badge/{badge.address}.svg").status_code == 200
    again = root.post(f"{LIST}add/", {"job": job.pk})
    assert "This job has a badge already." in again.content.decode()
    assert root.post(url("delete", badge), {"post": "yes"}).status_code == 302
    assert root.get(f"/badge/{badge.address}.svg").status_code == 404
    assert [entry.action_flag for entry in LogEntry.objects.order_by("pk")] == [1, 3]


def test_selected_badges_are_revoked(root: Client) -> None:
    badges = [Badge.objects.create(job=make_job()) for _ in range(2)]
    answer = root.post(
        LIST,
        {"action": "delete_selected", "_selected_action": [b.pk for b in badges], "post": "yes"},
        follow=True,
    )
    assert messages_of(answer) == ["Successfully deleted 2 badges."]
    assert not Badge.objects.exists()


@pytest.mark.parametrize(
    ("permissions", "may"),
    [
        ((), ()),
        (("view_badge",), ("list", "page")),
        (("add_badge",), ()),
        (("add_badge", "view_job"), ("add",)),
        (("delete_badge", "view_badge"), ("list", "page", "revoke")),
    ],
)
def test_permissions(sign_in: SignIn, permissions: tuple[str, ...], may: tuple[str, ...]) -> None:
    badge, job = Badge.objects.create(job=make_job()), make_job()
    client = sign_in(*permissions)
    allowed = {
        "list": client.get(LIST).status_code == 200,
        "page": client.get(url("change", badge)).status_code == 200,
        "add": client.post(f"{LIST}add/", {"job": job.pk}).status_code == 302,
        "revoke": client.post(url("delete", badge), {"post": "yes"}).status_code == 302,
    }
    assert {name for name, is_allowed in allowed.items() if is_allowed} == set(may)
    assert Badge.objects.filter(job=job).exists() == ("add" in may)
    assert Badge.objects.filter(pk=badge.pk).exists() == ("revoke" not in may)


def test_nobody_changes_an_address(root: Client) -> None:
    badge = Badge.objects.create(job=make_job())
    other = make_job()
    assert root.post(url("change", badge), {"job": other.pk}).status_code == 403
    assert Badge.objects.get().job_id == badge.job_id


def test_get_and_a_post_without_token_revoke_nothing(sign_in: SignIn) -> None:
    badge = Badge.objects.create(job=make_job())
    client = sign_in(superuser=True, csrf=True)
    client.get(url("delete", badge))
    assert client.post(url("delete", badge), {"post": "yes"}).status_code == 403
    assert Badge.objects.exists()
