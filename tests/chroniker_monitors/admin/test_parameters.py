"""No parameter of any address, and no value in a form, is an error of the server."""

from __future__ import annotations

from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from django.test import Client

from tests.support.admin import JOB_FORM, admin_url, form_data, monitor_admin_url
from tests.support.crawler import links_of
from tests.support.world import World, make_world

pytestmark = pytest.mark.django_db

LISTS = ("job", "run", "incident", "host", "maintenance", "notification", "digest")
VALUES = ("a\0b", "x", "9" * 30, "0001-01-01 00:00+14:00")
ALWAYS = ("q", "o", "p", "_to_field")


def refused_parameters(client: Client, path: str, names: set[str]) -> list[str]:
    client.raise_request_exception = False
    found = []
    for name in sorted(names):
        for value in VALUES:
            query = urlencode({name: value}, errors="surrogatepass")
            if client.get(f"{path}?{query}").status_code >= 500:
                found.append(f"{path}?{query}")
    return found


def list_paths() -> list[str]:
    return [
        *(admin_url(f"{name}_changelist") for name in LISTS), monitor_admin_url("changelist")
    ]  # fmt: skip


@pytest.mark.parametrize("number", range(len(LISTS) + 1))
def test_no_parameter_of_a_list_is_an_error(root: Client, number: int) -> None:
    make_world()
    path = list_paths()[number]
    names = set(ALWAYS)
    for link in links_of(root.get(path)):
        names |= parse_qs(urlsplit(link).query).keys()
    assert refused_parameters(root, path, names) == []


def pages(world: World) -> list[tuple[str, set[str]]]:
    return [
        (admin_url("job_overview"), {"x"}),
        (admin_url("job_calendar"), {"span"}),
        (admin_url("job_preview"), {"schedule", "zone", "name"}),
        (admin_url("job_command_help"), {"command"}),
        (admin_url("job_live"), {"ids"}),
        (admin_url("job_add"), {"copy", "subscribers", "schedule"}),
        (admin_url("maintenance_add"), {"starts_at"}),
        (admin_url("digest_add"), {"user"}),
        (admin_url("run_change", world.run), {"q", "after", "before"}),
        (admin_url("run_tail", world.run), {"after", "line", "stdout"}),
        (admin_url("run_output", world.run), {"stream"}),
        (admin_url("incident_change", world.incident), {"x"}),
        (monitor_admin_url("add"), {"kind"}),
        (monitor_admin_url("add") + "?kind=disk&", {"subscribers"}),
        (monitor_admin_url("fields"), {"model"}),
        (monitor_admin_url("change", world.monitor), {"span"}),
        *((path + "%00/change/", {"x"}) for path in list_paths()),
    ]


def test_no_parameter_of_a_page_is_an_error(root: Client) -> None:
    refused = []
    for path, names in pages(make_world()):
        refused += refused_parameters(root, path, names)
    assert refused == []


def test_nul_in_a_form_is_an_error_of_the_user(root: Client) -> None:
    world = make_world()
    root.raise_request_exception = False
    posts: list[tuple[str, dict[str, str]]] = [
        (admin_url("job_run", world.failing), {"args": "a\0b"}),
        (admin_url("incident_acknowledge", world.incident), {"note": "a\0b"}),
        (admin_url("incident_acknowledge", world.incident), {"shown_note": "a\0b"}),
        (admin_url("job_add"), dict.fromkeys(JOB_FORM, "a\0b")),
        (monitor_admin_url("add") + "?kind=disk", dict.fromkeys(form_data(), "a\0b")),
        (monitor_admin_url("add") + "?kind=disk",
         form_data(param_path="a\0b", description="a\0b", _test="1")),
        *((path, {"action": name, "_selected_action": key})
          for path in list_paths()
          for name, key in (("delete_selected", "a\0b"), ("a\0b", "1"))),
    ]  # fmt: skip
    refused = [path for path, data in posts if root.post(path, data).status_code >= 500]
    assert refused == []
