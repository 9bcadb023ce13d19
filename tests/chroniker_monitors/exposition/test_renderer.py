"""The fast renderer writes the same bytes as prometheus_client."""

from __future__ import annotations

import gc
import json
import threading
import time
import tracemalloc
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
from chroniker_monitors.enums import MetricsDetail
from chroniker_monitors.exposition.formats import OPENMETRICS, TEXT, Format
from chroniker_monitors.exposition.renderer import Renderer
from chroniker_monitors.exposition.writer import format_number
from tests.factories import NOON
from tests.support.processes import wait_until

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
        "command": st.one_of(st.just("check_monitor"), texts),
        "task": texts,
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
        "team": texts,
        "alert_severity": st.sampled_from(["info", "warning", "critical"]),
        "minimum_seconds": st.one_of(st.none(), st.floats(0.001, 1e9)),
        "success_objective": st.one_of(st.none(), st.floats(1, 100)),
        "finish_by": st.just(""),
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
        "last_trace_id": st.sampled_from(["", "0af7651916cd43dd8448eb211c80319c"]),
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
groups = st.lists(
    st.fixed_dictionaries(
        {"name": texts, "severity": st.integers(0, 3), "value": any_float},
        optional={"low": any_float, "high": any_float},
    ),
    max_size=3,
    unique_by=lambda group: group["name"],
)
measured = st.fixed_dictionaries(
    {
        "host": st.one_of(st.just(""), texts),
        "severity": st.one_of(st.none(), st.integers(0, 3)),
        "value": any_float,
        "latency_seconds": st.one_of(st.none(), st.floats(0, 1e6)),
        "last_sample_at": moments,
        "expected_low": any_float,
        "expected_high": any_float,
        "dropped_series": st.one_of(st.none(), st.integers(0, 2000)),
        "series": st.one_of(st.none(), st.just("[]"), groups.map(json.dumps)),
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
    st.sampled_from(MetricsDetail),
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
    # In whole steps: the same placement has the same forecast in each snapshot.
    forecast = {(pk, host): (1e9 + pk, 1e9 + len(host)) for pk in (1, 3) for host in ("", *names)}
    return Snapshot(
        True,
        group_by_job(rows, names, forecast),
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


def render_ours(renderer: Renderer, snap: Snapshot, form: Format, config: MetricsConfig) -> bytes:
    rest = form.generate(FixedRegistry(site_metrics(snap, config)))
    return b"".join([*renderer(snap, form), rest]) + form.end


def render_with_prometheus_client(snap: Snapshot, config: MetricsConfig, form: Format) -> bytes:
    render = generate_openmetrics if form.openmetrics else generate_latest
    page: bytes = render(FixedRegistry(metrics(snap, config)))
    return page


@pytest.mark.slow
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
            ours = render_ours(renderer, snap, form, config)
            assert ours == render_with_prometheus_client(snap, config, form)
        keep = data.draw(st.sets(st.integers(0, max(len(table) - 1, 0))))
        table = [
            row if index in keep else (data.draw(jobs), row[1])
            for index, row in enumerate(table)
            if index != 0
        ]
        watched = data.draw(monitors) if watched and data.draw(st.booleans()) else watched[1:]


def plain_job(**fields: Any) -> dict[str, Any]:
    job = dict.fromkeys(JOB_COLUMNS, "") | {"command": "x", "enabled": True, "muted": False}
    missing = ("expected", "timeout", "start_deadline", "minimum")
    job |= dict.fromkeys((f"{name}_seconds" for name in missing), None)
    return job | {"success_objective": None, "failures_before_alert": 1} | fields


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_name_stays_one_sample(name: str) -> None:
    job = plain_job(name=name, hostname="*", team=name, expected_seconds=5)
    state = dict.fromkeys(STATE_COLUMNS) | {"host": f"host of {name}"}
    config = MetricsConfig((1.0,), True)
    page = render_ours(Renderer(config), snapshot([(job, [state])], []), OPENMETRICS, config)
    families = {f.name: f for f in text_string_to_metric_families(page.decode())}
    [running] = families["chroniker_job_running"].samples
    assert running.labels == {"job_name": name, "host": f"host of {name}"}
    [info] = families["chroniker_job_info"].samples
    assert info.labels["team"] == name
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


def page_of(runs: int, jobs: int = 40) -> Snapshot:
    """Jobs of which the first has this many runs."""
    state = dict.fromkeys(STATE_COLUMNS) | {"host": "", "last_status": "failed", "last_run_id": 7}
    state |= {"last_ended_at": NOON, "last_run_seconds": 1.0, "failures_error": 1}
    return snapshot(
        [
            (plain_job(name=f"job {n}"), [state | {"runs_total": runs if n == 0 else 1}])
            for n in range(jobs)
        ],
        [],
    )


def test_unchanged_buckets_are_not_rendered_again() -> None:
    renderer = Renderer(MetricsConfig((), True))

    def pieces(runs: int, form: Format) -> dict[bytes, bytes]:
        """The pieces of the counter of runs, by the name of their first job."""
        found = [piece for piece in renderer(page_of(runs), form) if b"job_runs_total{" in piece]
        return {piece.split(b'"')[1]: piece for piece in found}

    first, other_form, second = pieces(1, TEXT), pieces(1, OPENMETRICS), pieces(2, TEXT)
    assert list(first) == [b"job 0", b"job 16", b"job 32"]
    for bucket in first:
        assert other_form[bucket] is first[bucket]
        assert (second[bucket] is first[bucket]) == (bucket != b"job 0")
    assert second[b"job 0"].startswith(b'chroniker_job_runs_total{job_name="job 0"} 2.0\n')


@pytest.mark.parametrize("detail", MetricsDetail)
def test_cache_is_hardly_larger_than_the_page(detail: MetricsDetail) -> None:
    renderer = Renderer(MetricsConfig((1.0, 5.0, 60.0, 600.0), True, detail))
    snap = page_of(1, jobs=2000)
    gc.collect()
    tracemalloc.start()
    try:
        size = sum(map(len, renderer(snap, OPENMETRICS)))
        peak = tracemalloc.get_traced_memory()[1]
        gc.collect()
        kept = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert kept < 1.2 * size
    assert peak < 1.7 * size  # the page itself comes on top


def test_cache_is_dropped_when_nobody_scrapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chroniker_monitors.exposition.renderer.KEPT_SECONDS", 0.3)
    renderer = Renderer(MetricsConfig((), True))

    def is_empty() -> bool:
        return not any(cache._buckets for cache in renderer._caches())

    before = threading.active_count()
    for _ in range(3):  # each scrape keeps it, with one thread for all
        first = b"".join(renderer(page_of(1), TEXT))
        assert threading.active_count() <= before + 1
        time.sleep(0.2)
        assert not is_empty()
    wait_until(is_empty, timeout=5)
    assert b"".join(renderer(page_of(1), TEXT)) == first
