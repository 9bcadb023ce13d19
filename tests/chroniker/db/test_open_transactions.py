"""What forks refuses an open transaction at once, with a sentence that says what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.test import TestCase

from chroniker.db.open_transactions import refuse_open_transactions
from chroniker.engine.scheduler import Scheduler
from chroniker.exceptions import OpenTransaction
from chroniker.models import Run
from tests.factories import make_due_job, make_job
from tests.support.types import RunInFork

SENTENCE = r"(?s)A transaction is open on the database 'default'.*TransactionTestCase"
COMMANDS: dict[str, Callable[[int], Any]] = {
    "run_job": lambda job: call_command("run_job", str(job)),
    "cron": lambda job: call_command("cron"),
    "cron --jobs": lambda job: call_command("cron", jobs=str(job)),
    "cron --force-run": lambda job: call_command("cron", jobs=str(job), force_run=True),
    "cronserver": lambda job: call_command("cronserver", "60"),
}


class TestInsideTestCase(TestCase):
    """A site's own test, as its author writes it first."""

    def test_every_command_says_what_to_do(self) -> None:
        job = make_due_job()
        for name, command in COMMANDS.items():
            with self.subTest(name), self.assertRaisesRegex(CommandError, SENTENCE):
                command(job.pk)
        assert not Run.objects.exists()


@pytest.mark.django_db(transaction=True)
class TestOutsideTestCase:
    @pytest.mark.parametrize("name", COMMANDS)
    def test_atomic_block_is_refused(self, name: str) -> None:
        job = make_job()
        with transaction.atomic(), pytest.raises(CommandError, match=SENTENCE):
            COMMANDS[name](job.pk)
        assert not Run.objects.exists()

    def test_scheduler_itself_refuses(self) -> None:
        with transaction.atomic(), pytest.raises(OpenTransaction) as refused:
            Scheduler().run()
        assert refused.value.alias == "default"

    def test_connection_without_autocommit_is_refused(self, run_in_fork: RunInFork) -> None:
        def refusal() -> str:
            transaction.set_autocommit(False)
            try:
                with pytest.raises(OpenTransaction) as refused:
                    refuse_open_transactions()
                return str(refused.value)
            finally:
                transaction.rollback()
                transaction.set_autocommit(True)

        assert run_in_fork(refusal).wait().value

    def test_connection_that_was_never_opened_is_none(self) -> None:
        connection.close()
        refuse_open_transactions()

    def test_dry_run_forks_nothing_and_is_allowed(self) -> None:
        job = make_job()
        with transaction.atomic():
            call_command("cron", jobs=str(job.pk), force_run=True, dry_run=True)
