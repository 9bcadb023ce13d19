"""APScheduler in a process of its own."""

from apscheduler.schedulers.blocking import BlockingScheduler
from control.apscheduler import options

if __name__ == "__main__":
    BlockingScheduler(**options()).start()
