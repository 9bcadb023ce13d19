"""Ten thousand monitors that are due each minute."""

from __future__ import annotations

import contextlib
import datetime
import socket
import threading
from collections.abc import Iterator
from typing import Any

from . import databases
from .databases import BenchmarkDatabase
from .figures import Figure, Limit, PairedValue, compare_with_floor, median_figure
from .workers import Stopwatch

NOTE = (
    "10,000 monitors (disk, memory, records, sql, tcp, http to a server of this machine) due in "
    "each of five ticks, one directly after the other, with the history of the ticks before. Each "
    "tick must measure all of them within a minute. CPU is that of one monitor, in all processes "
    "except the database server, against a process that calls run() of the same probes in a loop "
    "and inserts the samples in one statement. The CPU of each kind is measured with 600 monitors "
    "of that kind, without what the same tick costs without a monitor. Before: with a process for "
    "each monitor, 200 of them."
)
RUN_ONCE = False
MONITORS = 10_000
ROUNDS = 5
ALONE = 200
OF_KIND = 600
KINDS: dict[str, dict[str, Any]] = {
    "disk": {"path": "/"},
    "memory": {},
    "records": {"model": "chroniker.Host"},
    "sql": {"statement": "SELECT count(*) FROM chroniker_host"},
    "tcp": {"host": "127.0.0.1", "port": 0},
    "http": {"url": "http://127.0.0.1:0/"},
}
MOST_CPU = Limit(3.0)


def figures(database: BenchmarkDatabase) -> list[Figure]:
    """Measure the wall time of each tick and the CPU of one monitor."""
    with serve() as port:
        database.call(prepare, number=MONITORS, port=port)
        ticks = [database.call(time_tick) for _ in range(ROUNDS)]
        floors = [database.call(time_floor) for _ in range(2)]
        kinds = {}
        for kind in KINDS:
            database.call(prepare, number=OF_KIND, port=port, kind=kind)
            kinds[kind] = database.call(time_kind)
        database.call(prepare, number=ALONE, port=port, own_process=True)
        alone = database.call(time_tick)
    pairs = [
        PairedValue(
            tick["cpu"] * 1e3 / MONITORS, floors[n % len(floors)]["cpu"] * 1e3 / MONITORS
        )
        for n, tick in enumerate(ticks)
    ]  # fmt: skip
    slowest = max(tick["wall"] for tick in ticks)
    return [
        Figure("the slowest of five ticks: wall", slowest, "s", limit=Limit(60)),
        compare_with_floor("one of 10,000: CPU", "ms", pairs, MOST_CPU, of_value=True),
        median_figure("  of which scheduler", "ms", [t["self"] * 1e3 / MONITORS for t in ticks]),
        *(
            Figure(f"  one of kind {kind}", cpu["cpu"], "ms", floor=cpu["floor"],
                   ratio=cpu["cpu"] / cpu["floor"], limit=MOST_CPU, of_value=True)
            for kind, cpu in kinds.items()
        ),
        Figure("  memory of the scheduler, peak", max(t["memory"] for t in ticks), "MiB"),
        Figure("  before: with its own process", alone["cpu"] * 1e3 / ALONE, "ms"),
    ]  # fmt: skip


@contextlib.contextmanager
def serve() -> Iterator[int]:
    """A server that answers any HTTP request; its CPU is in no figure."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
    with socket.create_server(("127.0.0.1", 0), backlog=512) as server:

        def work() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                with client, contextlib.suppress(OSError):
                    client.settimeout(5)
                    if client.recv(4096):
                        client.sendall(answer)

        for _ in range(4):
            threading.Thread(target=work, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


# --- in a worker ----------------------------------------------------------------------------


def prepare(number: int, port: int, kind: str = "", own_process: bool = False) -> None:
    """Create the monitors and register the host."""
    from django.db import connection, transaction

    from chroniker.engine.scheduler import Scheduler
    from chroniker_monitors.models import Monitor

    from .jobs import HOURLY

    databases.empty()
    kinds = [kind] if kind else list(KINDS)
    with transaction.atomic():
        for n in range(number):
            name = kinds[n % len(kinds)]
            params = dict(KINDS[name])
            if name == "tcp":
                params["port"] = port
            elif name == "http":
                params["url"] = f"http://127.0.0.1:{port}/"
            Monitor.objects.define(
                name=f"{name} {n}", kind=name, params=params, schedule=HOURLY, critical=1e15,
                own_process=own_process,
            )  # fmt: skip
    Scheduler().run()
    if connection.vendor == "postgresql":  # what autovacuum would do within a minute
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")


def make_due() -> None:
    """Make every monitor due since the last full hour; what has run before was an hour earlier."""
    from django.db.models import DateTimeField, ExpressionWrapper, F, Value

    from chroniker.models import JobState, Run

    def earlier(name: str) -> Any:
        hour = Value(datetime.timedelta(hours=1))
        return ExpressionWrapper(F(name) - hour, output_field=DateTimeField())

    slot = datetime.datetime.now(datetime.UTC).replace(minute=0, second=0, microsecond=0)
    Run.objects.update(scheduled_for=earlier("scheduled_for"))
    JobState.objects.update(
        last_started_at=earlier("last_started_at"), next_slot_at=slot, next_run_at=slot
    )


def time_tick(expected: int | None = None) -> dict[str, float]:
    """Return seconds of a tick on which all monitors are due; each must store a sample."""
    import re
    from pathlib import Path

    from django.core.management import call_command
    from django.db import connections

    from chroniker_monitors.models import Monitor, Sample

    make_due()
    total = Monitor.objects.count() if expected is None else expected
    before = Sample.objects.count()
    connections.close_all()
    with Stopwatch() as clock:
        call_command("cron")
    measured = Sample.objects.filter(value__isnull=False).count() - before
    if measured != total:
        errors = set(Sample.objects.exclude(error="").values_list("error", flat=True)[:5])
        raise RuntimeError(f"{measured} of {total} monitors have stored a sample: {errors}")
    peak = re.search(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert peak
    return {
        "wall": clock.wall,
        "cpu": clock.cpu,
        "self": clock.cpu_self,
        "memory": int(peak[1]) / 1024,
    }


def time_floor() -> dict[str, float]:
    """Return seconds of ``run()`` of all probes in a loop, and one insert of their samples."""
    from django.db import connections

    from chroniker_monitors.models import Probe, Sample
    from chroniker_monitors.probes import build_probe
    from chroniker_monitors.probes.limited_connections import keep_connections

    keep_connections()
    stored = list(Probe.objects.all())
    probes = [(probe.job_id, build_probe(probe.kind, probe.params)) for probe in stored]
    probes[0][1].run()
    now = datetime.datetime.now(datetime.UTC)
    connections.close_all()
    with Stopwatch() as clock:
        samples = []
        for job, probe in probes:
            reading = probe.run()
            samples.append(
                Sample(job_id=job, at=now, value=reading.value, severity=0, message=reading.message)
            )
        Sample.objects.bulk_create(samples)
    return {"cpu": clock.cpu, "wall": clock.wall}


def time_kind() -> dict[str, float]:
    """Return milliseconds of CPU of one monitor of a kind, and of its floor."""
    from django.core.management import call_command
    from django.db import connections

    from chroniker.models import JobState

    time_tick()  # imports, and the first sample, which creates the states
    JobState.objects.update(next_slot_at=None, next_run_at=None)
    connections.close_all()
    with Stopwatch() as idle:
        call_command("cron")
    tick, floor = time_tick(), time_floor()
    return {
        "cpu": (tick["cpu"] - idle.cpu) * 1e3 / OF_KIND,
        "floor": floor["cpu"] * 1e3 / OF_KIND,
    }
