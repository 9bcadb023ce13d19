"""A site with Celery: its app. ``TEST_BROKER`` is the URL of the broker."""

from __future__ import annotations

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.support.celery_settings")

app = Celery("bookshop", broker=os.environ.get("TEST_BROKER", "redis://127.0.0.1:6379/9"))
app.conf.update(
    broker_connection_retry_on_startup=True,
    task_acks_late=os.environ.get("TEST_ACKS_LATE") == "1",
    worker_prefetch_multiplier=int(os.environ.get("TEST_PREFETCH", "1")),
    worker_send_task_events=False,
)
if "TEST_VISIBILITY_SECONDS" in os.environ:
    app.conf.broker_transport_options = {
        "visibility_timeout": int(os.environ["TEST_VISIBILITY_SECONDS"])
    }
