"""The records probe: aggregates over model rows, and models it must not reveal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth import get_user_model
from django.db import connection
from django.utils import timezone

from chroniker.models import Job, OutputChunk, Run
from chroniker_monitors.checking.measurement import measure_kind
from chroniker_monitors.probes import fields
from chroniker_monitors.probes.lookups import (
    field_names,
    group_names,
    is_countable,
    is_secret,
)
from chroniker_monitors.probes.relative_time import parse_relative
from tests.factories import make_job
from tests.support.measurement import (
    build_errors,
    measure_error,
    measure_value,
    measured_number,
)

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)


@pytest.fixture
def runs(db: None) -> list[Run]:
    """Four failed runs and one successful run, 0 to 4 hours old."""
    job = make_job(name="nightly", priority=7)
    now = timezone.now()
    return [
        Run.objects.create(
            job=job,
            scheduled_for=now - timedelta(hours=hours, seconds=1),
            status="failed" if hours else "succeeded",
            duration_seconds=10.0 * hours,
            ran_on="ValueError: 100% wrong" if hours else "",
            exit_code=hours,
        )
        for hours in range(5)
    ]


def count(filters: str, exclude: str = "") -> float:
    return measured_number("records", model="chroniker.Run", filters=filters, exclude=exclude)


@pytest.mark.parametrize(
    ("filters", "rows"),
    [
        ("", 5), ("status = failed", 4), ("status=failed\n# a comment\n\nexit_code = 2", 1),
        ("status__in = failed, succeeded", 5), ("status__exact = lost", 0),
        ("status__iexact = FAILED", 4), ("ran_on__startswith = ValueError", 4),
        ("ran_on__contains = 100% wrong", 4), ("ran_on__icontains = VALUE", 4), ("ran_on = ", 1),
        ("scheduled_for__gte = now-90m", 2), ("scheduled_for__lt = now - 90m", 3),
        ("scheduled_for__range = now-150m, now-1h", 2), ("scheduled_for__gt = 2000-01-01", 5),
        ("scheduled_for__year__lt = 2000", 0), ("scheduled_for__date__gte = today-7d", 5),
        ("scheduled_for__lt = 2000-01-01T10:00:00+02:00", 0),
        ("duration_seconds__gt = 15.5", 3), ("exit_code__range = 1,3", 3),
        ("exit_code__in = 1, 2,77", 2), ("exit_code__isnull = true", 0),
        ("started_at__isnull = TRUE", 5), ("job__isnull = false", 5), ("job__name = nightly", 5),
        ("job__name__startswith = daily", 0), ("job__priority__gte = 8", 0), ("job = 0", 0),
        ("job__enabled = true", 5), ("ran_on__contains = ' OR 1=1 --", 0),
        ("ran_on__contains = a = b", 0),
    ],
)  # fmt: skip
def test_conditions(runs: list[Run], filters: str, rows: int) -> None:
    assert count(filters) == rows


def test_exclusions_leave_rows_out(runs: list[Run]) -> None:
    assert count("", exclude="exit_code = 1\nexit_code = 2") == 3
    assert count("status = failed", exclude="scheduled_for__lt = now-90m") == 1


@pytest.mark.parametrize(
    ("measure", "field", "value", "unit"),
    [
        ("count", "", 5, "rows"), ("sum", "duration_seconds", 100, ""),
        ("avg", "duration_seconds", 20, ""), ("max", "exit_code", 4, ""),
        ("min", "exit_code", 0, ""), ("oldest_seconds", "scheduled_for", 14_401, "seconds"),
        ("newest_seconds", "scheduled_for", 1, "seconds"),
    ],
)  # fmt: skip
def test_aggregates(runs: list[Run], measure: str, field: str, value: float, unit: str) -> None:
    found = measure_value("records", model="chroniker.Run", measure=measure, field=field)
    assert found.value == pytest.approx(value, abs=60 if unit == "seconds" else 1e-6)
    assert found.unit == unit
    assert "chroniker.Run" in found.message


@pytest.mark.parametrize(
    ("measure", "field", "value"),
    [("count", "", 0), ("sum", "exit_code", 0), ("oldest_seconds", "scheduled_for", 0)],
)
def test_no_rows_are_zero_for_counts_and_sums(
    db: None, measure: str, field: str, value: float
) -> None:
    params = {"model": "chroniker.Run", "measure": measure, "field": field}
    assert measured_number("records", **params) == value
    assert measured_number("records", **params, when_empty=-1) == -1


@pytest.mark.parametrize(
    ("measure", "field"),
    [("avg", "exit_code"), ("min", "exit_code"), ("max", "exit_code"),
     ("newest_seconds", "scheduled_for")],
)  # fmt: skip
def test_no_rows_are_unknown_for_other_aggregates(db: None, measure: str, field: str) -> None:
    params = {"model": "chroniker.Run", "measure": measure, "field": field}
    assert "when_empty" in measure_error("records", **params)
    assert measured_number("records", **params, when_empty=7.5) == 7.5


def test_measuring_changes_nothing(runs: list[Run]) -> None:
    before = list(Run.objects.order_by("pk").values())
    count("status = failed")
    assert list(Run.objects.order_by("pk").values()) == before
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


@pytest.mark.django_db(transaction=True)
def test_missing_table_is_unknown_and_not_zero_rows() -> None:
    with connection.schema_editor() as editor:
        editor.alter_db_table(Run, "chroniker_run", "chroniker_run_gone")
    try:
        said = measure_error("records", model="chroniker.Run")
    finally:
        with connection.schema_editor() as editor:
            editor.alter_db_table(Run, "chroniker_run_gone", "chroniker_run")
    assert said.startswith("Database error: ") and "chroniker_run" in said
    assert measured_number("records", model="chroniker.Run") == 0


@pytest.mark.django_db(transaction=True)
def test_locked_table_is_unknown_in_time() -> None:
    lock = {
        "postgresql": ("BEGIN", "LOCK TABLE chroniker_run"),
        "mysql": ("LOCK TABLES chroniker_run WRITE",),
        "sqlite": ("BEGIN EXCLUSIVE",),  # readers of a write-ahead log do not notice it
    }[connection.vendor]
    other: Any = connection.copy()
    other.connect()
    try:
        with other.cursor() as cursor:
            for statement in lock:
                cursor.execute(statement)
        if connection.vendor == "sqlite":
            assert measured_number("records", model="chroniker.Run") == 0
        else:
            said = measure_error("records", timeout=1, model="chroniker.Run")
            assert said.startswith("No result within 1 s.")
    finally:
        other.close()
    assert measured_number("records", model="chroniker.Run") == 0, "the connection is as it was"


# --- what cannot be guessed with conditions -------------------------------------------------

REFUSED_LOOKUPS = [
    "_connector = OR", "_negated = true", "connector_ = OR", "__class__ = 1", "_meta = 1",
    "pk = 1", "ran_on__regex = ^a", "ran_on__iregex = ^a", "ran_on__search = a", "status__foo = 1",
    "status__gt = a", "status__lt = b", "status__range = a,b", "ran_on__length__gt = 1",
    "ran_on__lower = a", "ran_on__trigram_similar = a", "status__contained_by = a",
    "scheduled_for__contains = 2", "scheduled_for__in = now", "scheduled_for__date__date = now",
    "scheduled_for__year__regex = 2", "exit_code__contains = 1", "exit_code__startswith = 1",
    "started_at__isnull__exact = true", "job__job = 1", "job__subscribers = 1",
    "job__subscribers__password__startswith = pbkdf2", "job__runs__error = a", "job__states = 1",
    "job__states__lease_token = a", "job__pk = 1", "job__password = a", "output__text = a",
    "states__lease_token__startswith = a", "runs = 1", "subscribers__isnull = true",
    "job__name__regex = ^a", "job__needs_planning = true",
    "ran_on.status = 1", "ran_on;status = 1", "ran_on status = 1", "ran_on' = 1", 'error" = 1',
    "ran_on-- = 1", "ran_on/**/ = 1", "ran_on\x0b = 1", "ran_on\x1f = 1", "errör = 1",
    "\u0435rror = 1", "status\u200b = 1", "ERROR = 1", "ran_on____contains = a", "ran_on__ = a",
    "__error = a", "= 1", "ran_on", "status == failed", "status != failed", "1 = 1",
    "ran_on)) OR 1=1 -- = 1", "select = 1",
]  # fmt: skip


@pytest.mark.parametrize("text", REFUSED_LOOKUPS)
@pytest.mark.parametrize("name", ["filters", "exclude"])
def test_models_that_are_not_listed_are_rejected(name: str, text: str) -> None:
    assert name in build_errors("records", model="chroniker.Run", **{name: text})


@pytest.mark.parametrize(
    "text",
    [
        "exit_code = one", "exit_code = ", "exit_code__in = 1,", "exit_code__range = 1",
        "exit_code__range = 1,2,3", "duration_seconds__gt = nan", "scheduled_for__gt = soon",
        "scheduled_for__gt = now-", "scheduled_for__gt = now-1y", "scheduled_for__gt = now-1h now",
        "scheduled_for__gt = now-999999999d", "scheduled_for__year = two", "job__enabled = maybe",
        "job__isnull = perhaps", "job = nightly", "exit_code__in = " + ",".join(["1"] * 1001),
    ],
)  # fmt: skip
def test_value_of_another_type_is_refused(text: str) -> None:
    assert "filters" in build_errors("records", model="chroniker.Run", filters=text)


@pytest.mark.parametrize(
    "label",
    [
        "auth.User", "auth.Group", "auth.Permission", "sessions.Session", "admin.LogEntry",
        "contenttypes.ContentType", "chroniker.JobState", "no.Such", "chroniker", "",
        "chroniker.No",
        "a.b.c", "chroniker.Run ; DROP",
    ],
)  # fmt: skip
def test_models_that_cannot_be_counted_are_refused(label: str) -> None:
    assert list(build_errors("records", model=label)) == ["model"]


def test_offered_models_hold_no_secrets() -> None:
    (model,) = (field for field in fields("records") if field.name == "model")
    labels = [value for value, _ in model.options()]
    assert {"chroniker.Job", "chroniker.Run", "chroniker.Host"} <= set(labels)
    for label in labels:
        found = apps.get_model(label)
        assert found._meta.app_label not in ("auth", "sessions", "contenttypes", "admin")
        assert not any(is_secret(name.name) for name in found._meta.concrete_fields)


def test_models_setting_adds_models(settings: Any, db: None) -> None:
    settings.CHRONIKER_MONITORS_MODELS = ["auth.User", "chroniker.host"]
    get_user_model().objects.create_user("ann", password="correct horse")
    assert measured_number("records", model="auth.User", filters="is_active = true") == 1
    assert measured_number("records", model="chroniker.Host") == 0
    assert "model" in build_errors("records", model="chroniker.Run")
    for text in ("password__startswith = pbkdf2", "password__isnull = false", "password = a",
                 "groups__name = a", "user_permissions = 1"):  # fmt: skip
        assert "filters" in build_errors("records", model="auth.User", filters=text)
    said = build_errors("records", model="auth.User", measure="max", field="password")
    assert "field" in said
    assert "password" not in field_names("auth.User")


@pytest.mark.parametrize("named", [None, ["chroniker.OutputChunk", "chroniker.Run"]])
def test_output_is_never_counted(settings: Any, named: list[str] | None) -> None:
    settings.CHRONIKER_MONITORS_MODELS = named
    params = {"model": "chroniker.OutputChunk", "filters": "text__contains = a"}
    assert "model" in build_errors("records", **params)
    assert "is not one of" in measure_kind("records", params, timeout=20).error
    assert not is_countable(OutputChunk)


@pytest.mark.parametrize(
    ("model", "field"),
    [
        ("chroniker.Job", "args"), ("chroniker.Job", "raw_command"), ("chroniker.Run", "error"),
        ("chroniker.Run", "args"), ("chroniker.JobState", "run_requested_args"),
        ("chroniker.JobState", "last_error"), ("chroniker.Incident", "note"),
        ("chroniker.Incident", "snapshot"), ("chroniker.Incident", "first_run__error"),
        ("chroniker.Run", "job__args"), ("chroniker_monitors.Probe", "params"),
        ("chroniker_monitors.MonitorState", "last_ping_body"),
        ("chroniker_monitors.Monitor", "args"), ("chroniker.Declaration", "values"),
    ],
)  # fmt: skip
def test_texts_of_jobs_cannot_be_guessed_letter_by_letter(
    settings: Any, model: str, field: str
) -> None:
    settings.CHRONIKER_MONITORS_MODELS = [found._meta.label for found in apps.get_models()]
    for lookup in ("__startswith = a", " = a", "__isnull = false"):
        assert "must not" in build_errors("records", model=model, filters=field + lookup)["filters"]
    assert field not in field_names(model)


def test_lookups_never_reach_users(settings: Any) -> None:
    settings.CHRONIKER_MONITORS_MODELS = ["auth.User", "admin.LogEntry"]
    refused = build_errors("records", model="admin.LogEntry", filters="user__username = ann")
    assert "does not allow" in refused["filters"]
    assert "filters" in build_errors("records", model="admin.LogEntry", filters="user__email = a")


def test_lookups_never_reach_models_that_are_not_allowed(settings: Any) -> None:
    settings.CHRONIKER_MONITORS_MODELS = ["chroniker.Run"]
    assert "filters" in build_errors("records", model="chroniker.Run", filters="job__name = a")


def test_model_that_became_disallowed_is_unknown(settings: Any, runs: list[Run]) -> None:
    params = {"model": "chroniker.Run"}
    assert measure_kind("records", params, timeout=20).value == 5
    settings.CHRONIKER_MONITORS_MODELS = ["chroniker.Job"]
    assert "model" in measure_kind("records", params, timeout=20).error


@pytest.mark.parametrize(
    ("params", "name"),
    [
        ({"measure": "sum"}, "field"), ({"measure": "sum", "field": "ran_on"}, "field"),
        ({"measure": "sum", "field": "job"}, "field"), ({"measure": "avg", "field": "no"}, "field"),
        ({"measure": "sum", "field": "scheduled_for"}, "field"),
        ({"measure": "oldest_seconds", "field": "exit_code"}, "field"),
        ({"measure": "max", "field": "job__priority"}, "field"),
        ({"measure": "median"}, "measure"), ({"database": "other"}, "database"),
    ],
)  # fmt: skip
def test_conflicting_parameters_are_rejected(params: dict[str, Any], name: str) -> None:
    assert name in build_errors("records", model="chroniker.Run", **params)


@pytest.mark.parametrize(
    "name",
    [
        "password", "passwd", "user_password_old", "secret", "client_secret", "token",
        "lease_token", "apikey", "api_key", "apiKey", "key", "private_key", "pwd", "hash",
        "password_hash", "salt", "otp", "totp_seed", "pin", "signature", "credentials", "cvv",
        "iban", "session_data", "session", "cookie", "nonce",
    ],
)  # fmt: skip
def test_field_names_that_look_like_secrets(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize(
    "name", ["name", "status", "monkey", "keyword", "pinned", "passed", "hashtag", "created",
             "compass", "spin", "salted_caramel"],
)  # fmt: skip
def test_field_names_that_do_not_look_like_secrets(name: str) -> None:
    assert not is_secret(name)


def test_jobs_may_be_counted_and_states_may_not() -> None:
    assert is_countable(Job)
    assert not is_countable(apps.get_model("chroniker.JobState"))


# --- times ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", "2026-05-04T12:00:00+00:00"), ("now-1h", "2026-05-04T11:00:00+00:00"),
        ("NOW - 90 M", "2026-05-04T10:30:00+00:00"), ("now+30s", "2026-05-04T12:00:30+00:00"),
        ("now-1d-12h", "2026-05-03T00:00:00+00:00"), ("now-2w", "2026-04-20T12:00:00+00:00"),
        ("today", "2026-05-04T00:00:00+02:00"), ("today-1d", "2026-05-03T00:00:00+02:00"),
        ("today+8h", "2026-05-04T08:00:00+02:00"), ("later", None), ("now-1", None), ("-1h", None),
        ("now-1h30", None), ("nowadays", None), ("", None),
    ],
)  # fmt: skip
def test_relative_times(settings: Any, text: str, expected: str | None) -> None:
    settings.TIME_ZONE = "Europe/Berlin"
    found = parse_relative(text, NOON)
    assert found == (datetime.fromisoformat(expected) if expected else None)


def test_days_are_calendar_days_and_hours_are_elapsed_hours(settings: Any) -> None:
    settings.TIME_ZONE = "Europe/Berlin"
    after_spring = datetime(
        2026, 3, 29, 10, tzinfo=UTC
    )  # noon after the clock went from 2:00 to 3:00
    assert parse_relative("now-1d", after_spring) == datetime(2026, 3, 28, 11, tzinfo=UTC)
    assert parse_relative("now-24h", after_spring) == datetime(2026, 3, 28, 10, tzinfo=UTC)


def grouped(**params: Any) -> dict[str, float | None]:
    found = measure_value("records", model="chroniker.Run", **params)
    return {each.name: each.value for each in found.series or ()}


@pytest.mark.parametrize(
    ("params", "values"),
    [
        ({"group_by": "status"}, {"failed": 4, "succeeded": 1}),
        ({"group_by": "job__enabled"}, {"true": 5}),
        ({"group_by": "exit_code", "filters": "exit_code__lt = 2"}, {"0": 1, "1": 1}),
        ({"group_by": "status", "measure": "sum", "field": "duration_seconds"},
         {"failed": 100, "succeeded": 0}),
        ({"group_by": "status", "measure": "max", "field": "exit_code"},
         {"failed": 4, "succeeded": 0}),
    ],
)  # fmt: skip
def test_each_group_is_measured(
    runs: list[Run], params: dict[str, Any], values: dict[str, float]
) -> None:
    assert grouped(**params) == values


def test_no_rows_are_no_groups(runs: list[Run]) -> None:
    params = {"model": "chroniker.Run", "group_by": "status", "filters": "status = lost"}
    found = measure_kind("records", params, timeout=20)
    assert (found.series, found.value, found.error) == ((), None, "")
    assert found.message == "no groups"


def test_age_of_each_group(runs: list[Run]) -> None:
    found = measure_value(
        "records", model="chroniker.Run", group_by="status", measure="oldest_seconds",
        field="scheduled_for",
    )  # fmt: skip
    assert found.unit == "seconds"
    assert found.series is not None
    assert [(each.name, round(each.value or 0, -2)) for each in found.series] == [
        ("failed", 14_400), ("succeeded", 0),
    ]  # fmt: skip


def test_group_of_a_missing_value_has_a_name(runs: list[Run]) -> None:
    Run.objects.filter(status="failed").update(exit_code=None)
    assert grouped(group_by="exit_code") == {"(none)": 4, "0": 1}
    assert grouped(group_by="exit_code", measure="max", field="exit_code") == {"0": 0}
    assert grouped(group_by="exit_code", measure="max", field="exit_code", when_empty=-1.0) == {
        "(none)": -1,
        "0": 0,
    }


def test_too_many_groups_are_counted(runs: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chroniker_monitors.probes.records.MAX_GROUPS", 2)
    found = measure_value("records", model="chroniker.Run", group_by="exit_code")
    assert found.series is not None
    assert [each.name for each in found.series] == ["0", "1"]
    assert found.more_series == 3


@pytest.mark.parametrize(
    ("model", "path", "words"),
    [
        ("chroniker.Run", "error", "must not use"),
        ("chroniker.Run", "scheduled_for", "cannot be used for groups"),
        ("chroniker.Run", "id", "cannot be used for groups"),
        ("chroniker.Job", "name", "cannot be used for groups"),
        ("chroniker.Run", "job__name", "cannot be used for groups"),
        ("chroniker.Run", "nothing", "has no field"),
        ("chroniker.Run", "status__lower", "is not a relation"),
        ("chroniker.Run", "job__team__name", "is not a field"),
        ("chroniker.Run", "status; DROP TABLE x", "is not a field"),
        ("chroniker.JobState", "lease_token", "secret"),
        ("chroniker.Incident", "acknowledged_by__username", "must not follow"),
    ],
)
def test_groups_reveal_no_rows_and_no_secrets(
    db: None, settings: Any, model: str, path: str, words: str
) -> None:
    settings.CHRONIKER_MONITORS_MODELS = [
        "chroniker.Run", "chroniker.Job", "chroniker.JobState", "chroniker.Incident",
    ]  # fmt: skip
    assert words in build_errors("records", model=model, group_by=path)["group_by"]


def test_offered_groups_can_be_used(db: None) -> None:
    offered = group_names("chroniker.Run")
    assert {"status", "exit_code", "host", "job"} <= set(offered)
    assert not {"id", "error", "scheduled_for"} & set(offered)
