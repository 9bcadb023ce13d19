"""The smallest remote executor: a directory of orders, and a worker that looks into it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from chroniker.executors.base import RunOrder

DIRECTORY = "TEST_TOY_DIRECTORY"
NAME = "toy"


class ToyExecutor:
    """Publishes an order as a file."""

    def check(self) -> None:
        pass

    def start(self, orders: Sequence[RunOrder]) -> Mapping[int, str]:
        for order in orders:
            path = Path(os.environ[DIRECTORY], order.queue, f"{time.monotonic_ns()}")
            path.parent.mkdir(exist_ok=True)
            path.with_suffix(".new").write_text(json.dumps(order.dump()))
            path.with_suffix(".new").rename(path)
        return {}

    def capacity(self, queue: str) -> int | None:
        return None

    def close(self) -> None:
        pass


def main() -> None:
    """The worker: reports, and executes the oldest order."""
    import django

    django.setup()
    from chroniker import __version__
    from chroniker.engine.worker import execute_order
    from chroniker.models import Worker

    queue, name = sys.argv[1:]
    directory = Path(os.environ[DIRECTORY], queue)
    while True:
        Worker.objects.record(name, NAME, [queue], 1, __version__)
        for path in sorted(directory.glob("[0-9]*[0-9]")):
            order = RunOrder.load(json.loads(path.read_text()))
            path.unlink()
            execute_order(order, name)
        time.sleep(0.1)


@contextmanager
def run_toy_worker(
    directory: Path, queue: str, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """A worker process; killed at the end."""
    with (directory / "toy.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.toy_executor", queue, "toy worker"],
            env={**environment, DIRECTORY: str(directory)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    main()
