import statistics
import time

from .common import main, migrate, moment, page, setup

setup()

from chroniker.models import Job, JobState, Run  # noqa: E402


def add(number, due, seconds):
    at = moment(due)
    schedule = f"{at.minute} {at.hour} {at.day} {at.month} * {at.second}"
    Job.objects.bulk_create(
        Job(name=f"job {n}", command="peer_work", args=f"{n} {seconds}", schedule=schedule,
            timezone="UTC")
        for n in range(number)
    )  # fmt: skip


def states():
    return {
        "stuck": JobState.objects.exclude(lease_token=None).count(),
        "reported": Run.objects.filter(status__in=("failed", "lost", "timed_out")).count(),
    }


def scrape(rounds=7):
    from django.test import Client

    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        response = Client().get("/metrics")
        text = response.getvalue()
        times.append(1e3 * (time.perf_counter() - began))
        assert response.status_code == 200
    series = sum(line.startswith(b"chroniker_") for line in text.splitlines())
    return {"ms": statistics.median(times), "series": series}


main(
    prepare=migrate, add=add, states=states, scrape=scrape,
    clear=lambda: Job.objects.all().delete() and None,
    page=lambda: page("/admin/chroniker/job/"),
)  # fmt: skip
