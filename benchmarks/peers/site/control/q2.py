from .common import main, migrate, moment, page, setup

setup()

from django_q.models import Failure, OrmQ, Schedule, Task  # noqa: E402


def add(number, due, seconds):
    Schedule.objects.bulk_create(
        Schedule(name=f"job {n}", func="work.work", args=f"({n}, {seconds})",
                 schedule_type=Schedule.DAILY, next_run=moment(due))
        for n in range(number)
    )  # fmt: skip


def states():
    return {"stuck": OrmQ.objects.count(), "reported": Failure.objects.count()}


def clear():
    for model in (Schedule, OrmQ, Task):
        model.objects.all().delete()


main(
    prepare=migrate, add=add, states=states, clear=clear,
    page=lambda: page("/admin/django_q/schedule/"),
)  # fmt: skip
