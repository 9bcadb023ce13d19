import json
from datetime import timedelta

from .common import main, migrate, moment, page, setup

setup()

from django_celery_beat.models import (  # noqa: E402
    IntervalSchedule,
    PeriodicTask,
    PeriodicTasks,
)


def add(number, due, seconds):
    day, _ = IntervalSchedule.objects.get_or_create(every=1, period=IntervalSchedule.DAYS)
    PeriodicTask.objects.bulk_create(
        PeriodicTask(name=f"job {n}", task="tasks.work", args=json.dumps([n, seconds]),
                     interval=day, last_run_at=moment(due) - timedelta(days=1))
        for n in range(number)
    )  # fmt: skip
    PeriodicTasks.update_changed()


def clear():
    PeriodicTask.objects.all().delete()


main(
    prepare=migrate, add=add, states=dict, clear=clear,
    page=lambda: page("/admin/django_celery_beat/periodictask/"),
)  # fmt: skip
