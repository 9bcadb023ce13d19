"""Notifiers of a site that misbehave."""

from __future__ import annotations

import time

from django.conf import settings
from django.db import OperationalError, ProgrammingError

from chroniker.alerting.notifiers import Notifier
from chroniker.models import Job, Notification


class HangingNotifier(Notifier):
    """Never returns."""

    def send(self, notification: Notification) -> None:
        while True:
            time.sleep(60)


class ProgrammingErrorNotifier(Notifier):
    """Queries a missing table of its own database."""

    def send(self, notification: Notification) -> None:
        raise ProgrammingError("relation chat_rooms does not exist")


class SecretLeakingNotifier(Notifier):
    """Raises an error that contains the URL, as HTTP clients do."""

    def send(self, notification: Notification) -> None:
        raise OSError(f"401 for url: https://chat.example.com/{settings.CHAT_TOKEN}")


class JobDeletingNotifier(Notifier):
    """Deletes every other job, as a user of the admin may at this moment."""

    def send(self, notification: Notification) -> None:
        Job.objects.exclude(pk=notification.job_id).delete()


class OperationalErrorNotifier(Notifier):
    """Has lost the connection to its own database."""

    def send(self, notification: Notification) -> None:
        raise OperationalError("server has gone away")
