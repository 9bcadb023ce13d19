import os

from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.background import BackgroundScheduler

from .common import main, moment


def options():
    """A run that is late starts all the same; by default one second late is missed."""
    port, name = os.environ["PEERS_DB_PORT"], os.environ["PEERS_DB"]
    store = SQLAlchemyJobStore(url=f"postgresql+psycopg://postgres@127.0.0.1:{port}/{name}")
    return {
        "jobstores": {"default": store},
        "job_defaults": {"misfire_grace_time": None},
        "timezone": "UTC",
    }


def add(number, due, seconds):
    scheduler = BackgroundScheduler(**options())
    scheduler.start(paused=True)
    for n in range(number):
        scheduler.add_job(
            "work:work", "interval", args=(n, seconds), id=f"job {n}", days=1,
            next_run_time=moment(due),
        )  # fmt: skip
    scheduler.shutdown()


def clear():
    scheduler = BackgroundScheduler(**options())
    scheduler.start(paused=True)
    scheduler.remove_all_jobs()
    scheduler.shutdown()


if __name__ == "__main__":
    main(prepare=dict, add=add, states=dict, clear=clear)
