from .common import main, migrate, moment, page, setup

setup()

from chroniker.models import Job, Log  # noqa: E402


def add(number, due, seconds):
    Job.objects.bulk_create(
        Job(name=f"job {n}", command="peer_work", args=f"{n} {seconds}", frequency="DAILY",
            enabled=True, next_run=moment(due))
        for n in range(number)
    )  # fmt: skip


def states():
    return {
        "stuck": Job.objects.filter(is_running=True).count(),
        "reported": Log.objects.filter(success=False).count(),
    }


def clear():
    Log.objects.all().delete()
    Job.objects.all().delete()


main(
    prepare=migrate, add=add, states=states, clear=clear,
    page=lambda: page("/admin/chroniker/job/"),
)  # fmt: skip
