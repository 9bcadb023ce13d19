"""The Celery app of the bookshop, for ``make demo-celery``."""

from __future__ import annotations

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "bookshop_site.settings")

app = Celery("bookshop", broker=os.environ.get("DEMO_BROKER"))
app.conf.broker_connection_retry_on_startup = True
