"""The contract of executors as a site runs it: local, a toy, and Celery."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from chroniker.models import Worker
from chroniker.testing.executors import ExecutorContract, RemoteExecutorContract
from tests.settings import BACKEND
from tests.support.celery_workers import (
    CeleryWorker,
    new_queue,
    run_celery_worker,
    use_workers,
    worker_environment,
)
from tests.support.machine import require
from tests.support.processes import wait_until
from tests.support.toy_executor import DIRECTORY, run_toy_worker

BROKER = "redis" if BACKEND == "sqlite" else "rabbitmq"


@pytest.fixture(scope="module")
def toy_queue(
    django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The queue of a toy worker."""
    directory, queue = tmp_path_factory.mktemp("toy"), new_queue()
    with pytest.MonkeyPatch.context() as patch, django_db_blocker.unblock():
        patch.setenv(DIRECTORY, str(directory))
        with run_toy_worker(directory, queue, worker_environment()):
            yield queue


@pytest.fixture(scope="module")
def celery_worker(
    django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CeleryWorker]:
    """A Celery worker with one process."""
    pytest.importorskip("celery")
    require(BROKER)
    if BACKEND == "mariadb":
        pytest.skip("the faults of workers are injected on MariaDB: make faults-on-workers")
    with (
        django_db_blocker.unblock(),
        run_celery_worker(BROKER, tmp_path_factory.mktemp("celery")) as made,
    ):
        yield made


@pytest.mark.slow
@pytest.mark.one_database
class TestLocal(ExecutorContract):
    @pytest.fixture(autouse=True)
    def site(self, settings: Any) -> None:
        use_workers(settings, "none")


@pytest.mark.slow
@pytest.mark.one_database
class TestToy(RemoteExecutorContract):
    executor_name = "toy"

    @pytest.fixture(autouse=True)
    def site(self, toy_queue: str, transactional_db: None, settings: Any) -> None:
        use_workers(settings, toy_queue)
        settings.CHRONIKER_EXECUTORS = {"toy": "tests.support.toy_executor.ToyExecutor"}
        wait_until(Worker.objects.live().exists, 30)


@pytest.mark.slow
class TestCelery(RemoteExecutorContract):
    executor_name = "celery"

    @pytest.fixture(autouse=True)
    def site(
        self,
        celery_worker: CeleryWorker,
        transactional_db: None,
        settings: Any,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        use_workers(settings, celery_worker.queue)
        monkeypatch.setenv("TEST_BROKER", celery_worker.broker)
        settings.CHRONIKER_CELERY_APP = "tests.support.celery_site.app"
        celery_worker.wait_until_ready()
