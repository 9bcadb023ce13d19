"""Traces as a real OTLP receiver gets them from real ticks."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chroniker.models import JobState, Run
from tests.factories import make_action_job, make_due
from tests.support.machine import REPO, free_port
from tests.support.metrics_page import scrape
from tests.support.otlp_receiver import OtlpReceiver, context_of, run_otlp_receiver
from tests.support.processes import tree_of, wait_until
from tests.support.runs import stored_output
from tests.support.types import RunManage, StartManage

pytest.importorskip("opentelemetry.sdk.trace")
pytest.importorskip("opentelemetry.proto")

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.one_database,
    pytest.mark.slow,
]
SERVER, OK, ERROR = 2, 0, 2  # in the protocol


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with run_otlp_receiver() as receiver:
        yield receiver


@pytest.fixture
def site(tmp_path: Path) -> dict[str, str]:
    """The environment of a site whose runtime files are in a directory of this test."""
    (tmp_path / "traced.py").write_text(
        "from tests.settings import *\n"
        f"CHRONIKER_RUNTIME_DIR = {str(tmp_path / 'runtime')!r}\n"
        "CHRONIKER_SITE_URL = 'https://shop.example'\n"
    )
    return {"DJANGO_SETTINGS_MODULE": "traced", "PYTHONPATH": f"{tmp_path}:{REPO}"}


def test_tick_with_a_chain(manage: RunManage, receiver: OtlpReceiver, site: dict[str, str]) -> None:
    first = make_action_job("say_environment TRACEPARENT", name="first")
    second = make_action_job("say_current_run", name="second", schedule="")
    second.dependencies.create(upstream=first)
    broken = make_action_job("fail boom", name="broken")
    done = manage("cron", env=site | receiver.environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    (tick,) = receiver.named("tick")
    spans = {span.name: span for span in receiver.spans}
    assert set(spans) == {"tick", "RUN first", "RUN second", "RUN broken"}
    assert tick.parent_id == ""
    assert tick.resource["service.name"] == "chroniker"
    for name in ("first", "second", "broken"):
        span, run = spans[f"RUN {name}"], Run.objects.get(job__name=name)
        assert (span.trace_id, span.parent_id) == (tick.trace_id, tick.span_id)
        assert span.kind == SERVER
        assert context_of(run.traceparent) == span.context
        assert JobState.objects.get(job__name=name).last_trace_id == span.trace_id
        assert span.attributes["cicd.pipeline.run.id"] == str(run.pk)
        assert span.attributes["cicd.pipeline.run.url.full"] == (
            f"https://shop.example/admin/chroniker/run/{run.pk}/change/"
        )

    good, bad = spans["RUN first"], spans["RUN broken"]
    assert good.attributes["cicd.pipeline.name"] == "first"
    assert good.attributes["cicd.pipeline.result"] == "success"
    assert good.attributes["faas.trigger"] == "timer"
    assert good.status == OK
    assert spans["RUN second"].attributes["faas.trigger"] == "other"
    assert spans["RUN second"].attributes["chroniker.trigger"] == "dependency"
    assert (bad.status, bad.message) == (ERROR, "ValueError: boom")
    assert bad.attributes["cicd.pipeline.result"] == "failure"
    assert bad.attributes["error.type"] == "failed"

    assert spans["RUN second"].links == (good.context,)
    assert good.links == ()

    (in_environment,) = json.loads(stored_output(first.runs.get(), "stdout"))
    assert context_of(in_environment) == good.context
    current = json.loads(stored_output(second.runs.get(), "stdout"))
    assert context_of(current["traceparent"]) == spans["RUN second"].context

    page = scrape(Accept="application/openmetrics-text")
    failures = next(
        line
        for line in page.splitlines()
        if line.startswith('chroniker_job_failures_total{job_name="broken",reason="error"}')
    )
    run_id = broken.runs.get().pk
    assert f'# {{run_id="{run_id}",trace_id="{bad.trace_id}"}} 1' in failures


def test_nothing_is_imported_or_sent_where_nothing_is_traced(
    manage: RunManage, receiver: OtlpReceiver, site: dict[str, str]
) -> None:
    imports = {"PYTHONPROFILEIMPORTTIME": "1"}
    job = make_action_job("say_environment TRACEPARENT", name="job")
    for environment in ({}, receiver.environment | {"OTEL_SDK_DISABLED": "true"}):
        done = manage("cron", env=site | imports | {"TRACEPARENT": "its own"} | environment)
        assert done.returncode == 0
        assert "opentelemetry" not in done.stderr
        run = job.runs.first()
        assert run is not None and run.traceparent == ""
        assert json.loads(stored_output(run, "stdout")) == ["its own"], "left as it was"
        make_due(job)
    JobState.objects.update(next_run_at=None, next_slot_at=None)
    idle = manage("cron", env=site | imports | receiver.environment)
    assert "opentelemetry" not in idle.stderr, "an idle tick is not traced"
    assert receiver.requests == 0


def test_receiver_that_is_away(manage: RunManage, site: dict[str, str], tmp_path: Path) -> None:
    job, port = make_action_job("say hello", name="job"), free_port()
    environment = site | {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
    }
    first = manage("cron", env=environment)
    make_due(job)
    second = manage("cron", env=environment)
    assert (first.returncode, second.returncode) == (0, 0)
    assert first.stderr == f"Spans were not received by http://127.0.0.1:{port}\n"
    assert second.stderr == "", "logged once for each outage"
    assert set(job.runs.values_list("status", flat=True)) == {"succeeded"}
    assert list((tmp_path / "runtime").glob("otel-*.down"))
    make_due(job)
    with run_otlp_receiver(port) as receiver:
        assert manage("cron", env=environment).returncode == 0
        assert len(receiver.spans) == 2
    assert not list((tmp_path / "runtime").glob("otel-*.down"))


def test_lost_run_has_a_span_of_the_tick_that_recorded_it(
    start_manage: StartManage,
    manage: RunManage,
    receiver: OtlpReceiver,
    site: dict[str, str],
    tmp_path: Path,
) -> None:
    job = make_action_job(f"sleep 60 {tmp_path / 'started'}", name="job")
    tick = start_manage("cron", env=site | receiver.environment)
    run = wait_until(lambda: Run.objects.exclude(traceparent="").first(), timeout=20)
    tick.kill()
    tick.wait()
    wait_until(lambda: not _alive(int((tmp_path / "started").read_text())))
    type(job).objects.filter(pk=job.pk).update(enabled=False)
    assert manage("cron", env=site | receiver.environment).returncode == 0
    run.refresh_from_db()
    assert run.status == "lost"
    (span,) = receiver.named("RUN job")
    assert context_of(run.traceparent) == f"{span.trace_id}-{span.parent_id}"
    assert (span.status, span.attributes["cicd.pipeline.result"]) == (ERROR, "error")


def test_cronserver_sends_while_it_runs(
    start_manage: StartManage, receiver: OtlpReceiver, site: dict[str, str]
) -> None:
    job = make_action_job("say hello", name="job", schedule="@every 1s")
    server = start_manage("cronserver", "0.2", env=site | receiver.environment)
    wait_until(lambda: len(receiver.named("RUN job")) >= 2, timeout=20)
    assert server.poll() is None

    def parents_are_known() -> bool:  # a tick may end, and be sent, after its runs
        runs = receiver.named("RUN job")
        ticks = {span.span_id for span in receiver.named("tick")}
        return {span.parent_id for span in runs} <= ticks

    wait_until(parents_are_known, timeout=20)
    server.send_signal(signal.SIGTERM)
    assert server.wait(20) == 0
    assert len(receiver.named("RUN job")) == job.runs.exclude(traceparent="").count()


OWN_PROVIDER = """
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
provider = TracerProvider(resource=Resource({"service.name": "bookshop"}))
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_spans_of_a_job_are_children_of_its_run(
    manage: RunManage, receiver: OtlpReceiver, site: dict[str, str], tmp_path: Path, method: str
) -> None:
    with (tmp_path / "traced.py").open("a") as file:
        file.write(f"CHRONIKER_START_METHOD = {method!r}\n{OWN_PROVIDER}")
    make_action_job("start_span restock", name="job")
    done = manage("cron", env=site | receiver.environment)
    assert done.returncode == 0, done.stderr
    (run,), (own,) = receiver.named("RUN job"), receiver.named("restock")
    assert (own.trace_id, own.parent_id) == (run.trace_id, run.span_id)
    assert own.resource["service.name"] == run.resource["service.name"] == "bookshop"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_tree_is_not_larger_with_tracing(
    start_manage: StartManage, receiver: OtlpReceiver, site: dict[str, Any]
) -> None:
    make_action_job("sleep 30", name="job")
    tick = start_manage("cron", env=site | receiver.environment)
    wait_until(lambda: Run.objects.exclude(traceparent="").exists(), timeout=20)
    tree = tree_of(tick.pid)
    assert {tree[name].num_threads() for name in ("forkserver", "warden", "job")} == {1}
    # That of the tick's span has ended.
    wait_until(lambda: len(receiver.named("tick")) == 1 and tree["tick"].num_threads() == 1)
