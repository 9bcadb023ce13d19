"""The fast renderer writes the same bytes as prometheus_client."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.utils import floatToGoString

from chroniker.enums import RunStatus
from chroniker_monitors.collector.metrics import MetricsConfig
from chroniker_monitors.collector.numbers import (
    BUCKET_COLUMNS,
    JOB_COLUMNS,
    PLAIN_COLUMNS,
    SAMPLE_COLUMNS,
    STATE_COLUMNS,
    TIME_COLUMNS,
)
from chroniker_monitors.collector.prometheus import metrics, site_metrics
from chroniker_monitors.collector.rows import Snapshot, group_by_job, group_by_monitor
from chroniker_monitors.exposition.formats import OPENMETRICS, TEXT, Format
from chroniker_monitors.exposition.renderer import Renderer
from chroniker_monitors.exposition.writer import format_number

HOSTILE = [
    'a"b\n} evil 1',
    "back\\slash\\",
    "\\n is no newline",
    'ends with quote"',
    "x" * 200,
    "🦄 emoji",
    "\u202eright to left\u202c שלום",
    "%s %(who)s %d {job_name}",
    "\r\n\r\n\n\n",
    "# HELP evil",
    "\x00\x01\u2028",
]
texts = st.one_of(
    st.sampled_from(HOSTILE), st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
)
whole_numbers = st.one_of(st.integers(0, 2000), st.integers(0, 2**62))
numbers = st.one_of(
    st.none(), whole_numbers, st.floats(min_value=0, allow_infinity=False), st.integers(-5, -1)
)
micros = st.integers(10**15, 2**33 * 10**6).map(lambda number: number / 1e6)
moments = st.one_of(
    st.none(), st.datetimes(datetime(1971, 1, 1), datetime(2099, 1, 1), timezones=st.just(UTC))
)
buckets = st.one_of(
    st.none(),
    st.dictionaries(
        st.one_of(st.sampled_from(["0.1", "1", "60", "1.0", "x"]), st.floats(0).map(str)),
        st.integers(0, 10**7),
        max_size=4,
    ).map(json.dumps),
)
jobs = st.fixed_dictionaries(
    {
        "name": texts,
        "command": texts,
        "raw_command": texts,
        "schedule": st.one_of(st.just("@every 5m"), st.just("* * * * *"), texts),
        "timezone": texts,
        "hostname": st.one_of(st.just("*"), texts),
        "enabled": st.one_of(st.booleans(), st.integers(0, 1)),
        "expected_seconds": st.one_of(st.none(), whole_numbers),
        "timeout_seconds": st.one_of(st.none(), whole_numbers),
        "start_deadline_seconds": st.one_of(st.none(), whole_numbers),
        "muted": st.one_of(st.booleans(), st.integers(0, 1)),
        "failures_before_alert": whole_numbers,
    }
)
states = st.fixed_dictionaries(
    {
        "host": st.one_of(st.just(""), texts),
        "lease_token": st.one_of(st.none(), st.just("token")),
        "blocked_reason": st.one_of(st.just(""), st.just("capacity"), texts),
        "last_status": st.one_of(st.just(""), st.sampled_from(RunStatus.values), texts),
        **dict.fromkeys(PLAIN_COLUMNS, numbers),
        **dict.fromkeys(TIME_COLUMNS, moments),
        **dict.fromkeys(BUCKET_COLUMNS, buckets),
        "duration_count": whole_numbers,
        "start_lag_count": whole_numbers,
        "last_run_id": st.one_of(st.none(), st.integers(1, 2**62)),
        "last_run_seconds": numbers,
    }
)
any_float = st.one_of(st.none(), st.floats(), st.integers(-(10**9), 10**9))
probes = st.tuples(
    texts,  # name
    st.one_of(st.just("*"), texts),  # hostname
    st.sampled_from(["disk", "sql"]),
    st.one_of(st.just(""), texts),  # unit
    st.sampled_from(["<", ">=", "=="]),
    any_float,
    any_float,
)
measured = st.fixed_dictionaries(
    {
        "host": st.one_of(st.just(""), texts),
        "severity": st.one_of(st.none(), st.integers(0, 3)),
        "value": any_float,
        "latency_seconds": st.one_of(st.none(), st.floats(0, 1e6)),
        "last_sample_at": moments,
        "unit": texts,
    }
)
monitors = st.lists(
    st.tuples(probes, st.lists(measured, max_size=3, unique_by=lambda s: s["host"]))
)
hosts = st.tuples(texts, moments, numbers, st.integers(0, 9), st.booleans())
tables = st.lists(st.tuples(jobs, st.lists(states, max_size=3, unique_by=lambda s: s["host"])))
contracts = st.builds(
    MetricsConfig,
    st.lists(st.floats(0.001, 1e9), max_size=4, unique=True).map(sorted).map(tuple),
    st.booleans(),
)


def snapshot(
    table: list[Any], machines: list[Any], seconds: float = 0.25, watched: Any = ()
) -> Snapshot:
    rows = [
        (pk, *(job[column] for column in JOB_COLUMNS[1:]), *state)
        for pk, (job, slots) in enumerate(table)
        for state in (
            [tuple(slot[column] for column in STATE_COLUMNS) for slot in slots]
            or [(None,) * len(STATE_COLUMNS)]
        )
    ]
    # Also the hosts of the placements: those of others leave no series.
    names = [machine[0] for machine in machines] + [
        slot["host"] for _, slots in [*table, *watched] for slot in slots if slot["host"]
    ]
    names = list(dict.fromkeys(names))
    samples = [
        (pk, *probe, *sample)
        for pk, (probe, found) in enumerate(watched)
        for sample in (
            [tuple(row[column] for column in SAMPLE_COLUMNS) for row in found]
            or [(None,) * len(SAMPLE_COLUMNS)]
        )
    ]
    return Snapshot(
        True,
        group_by_job(rows, names),
        group_by_monitor(samples, names),
        machines,
        {"open_warning": len(table)},
        len(table),
        seconds=seconds,
    )


class FixedRegistry:
    def __init__(self, families: Any) -> None:
        self.families = families

    def collect(self) -> Any:
        return self.families


def render_ours(renderer: Renderer, snap: Snapshot, form: Format) -> bytes:
    rest = form.generate(FixedRegistry(site_metrics(snap)))
    return b"".join([*renderer(snap, form), rest]) + form.end


def render_with_prometheus_client(snap: Snapshot, config: MetricsConfig, form: Format) -> bytes:
    render = generate_openmetrics if form.openmetrics else generate_latest
    page: bytes = render(FixedRegistry(metrics(snap, config)))
    return page


@settings(max_examples=150)
@given(
    tables, monitors, st.lists(hosts, max_size=3, unique_by=lambda h: h[0]), contracts, st.data()
)
def test_output_is_identical_to_prometheus_client(
    table: list[Any],
    watched: list[Any],
    machines: list[Any],
    config: MetricsConfig,
    data: st.DataObject,
) -> None:
    renderer = Renderer(config)
    for _ in range(2):  # the second page reuses rows of the first, some of them stale
        snap = snapshot(table, machines, watched=watched)
        for form in (TEXT, OPENMETRICS):
            assert render_ours(renderer, snap, form) == render_with_prometheus_client(
                snap, config, form
            )
        keep = data.draw(st.sets(st.integers(0, max(len(table) - 1, 0))))
        table = [
            row if index in keep else (data.draw(jobs), row[1])
            for index, row in enumerate(table)
            if index != 0
        ]
        watched = data.draw(monitors) if watched and data.draw(st.booleans()) else watched[1:]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_name_stays_one_sample(name: str) -> None:
    job = dict.fromkeys(JOB_COLUMNS, "") | {"name": name, "hostname": "*", "command": "x"}
    job |= {"enabled": True, "muted": False, "expected_seconds": 5, "timeout_seconds": None}
    job |= {"start_deadline_seconds": None, "failures_before_alert": 1}
    state = dict.fromkeys(STATE_COLUMNS) | {"host": f"host of {name}"}
    page = render_ours(
        Renderer(MetricsConfig((1.0,), True)), snapshot([(job, [state])], []), OPENMETRICS
    )
    families = {f.name: f for f in text_string_to_metric_families(page.decode())}
    [running] = families["chroniker_job_running"].samples
    assert running.labels == {"job_name": name, "host": f"host of {name}"}
    assert page.decode().count("\nchroniker_job_running{") == 1


@given(st.one_of(st.integers(-(2**63), 2**63), st.floats(), st.floats(1e9, 2**33), micros))
@example(999_999)
@example(1_000_000)
@example(1023)
@example(1e9)
@example(1_777_896_000.000001)
@example(1_777_896_000.0000001)
@example(4294967295.999999)
@example(999_999.9999999999)
def test_numbers_are_formatted_as_in_go(number: float) -> None:
    assert format_number(number).decode() == floatToGoString(number)


def test_unchanged_row_is_not_rendered_again() -> None:
    job = dict.fromkeys(JOB_COLUMNS, "") | {"command": "x", "enabled": True, "muted": 0}
    job |= {"expected_seconds": None, "timeout_seconds": None, "start_deadline_seconds": None}
    job["failures_before_alert"] = 1
    state = dict.fromkeys(STATE_COLUMNS) | {"host": ""}

    def take(runs: int) -> Snapshot:
        return snapshot(
            [
                (job | {"name": name}, [state | {"runs_total": n}])
                for name, n in (("a", runs), ("b", 1))
            ],
            [],
        )

    def lines(runs: int, form: Format) -> dict[bytes, bytes]:
        return {piece.split(b" ")[0]: piece for piece in renderer(take(runs), form) if piece}

    renderer = Renderer(MetricsConfig((), True))
    first, other_form, second = lines(1, TEXT), lines(1, OPENMETRICS), lines(2, TEXT)
    a, b = b'chroniker_job_runs_total{job_name="a"}', b'chroniker_job_runs_total{job_name="b"}'
    assert other_form[a] is first[a]
    assert second[b] is first[b]
    assert (first[a], second[a]) == (a + b" 1.0\n", a + b" 2.0\n")
