"""The Celery application."""

import os

import work
from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
app = Celery("peers")
app.config_from_object("django.conf:settings", namespace="CELERY")


@app.task(name="tasks.work")
def run(name, seconds):
    work.work(name, seconds)
