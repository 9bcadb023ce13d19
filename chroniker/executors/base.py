"""The seam between the scheduler and what executes its runs.

The scheduler claims runs. Who owns a claimed run from then on, renews its lease and records its
end, makes two kinds of executors:

- An :class:`Executor` works for the owner, which is the scheduler itself or a worker. It starts
  what was claimed, listens to it, and stops it. It does not use the database.
- A :class:`RemoteExecutor` gives a run away. It carries an order to a worker on any machine. The
  worker calls :func:`chroniker.engine.worker.execute_order`, which makes it the owner. The
  scheduler may die meanwhile.

=========  ==============================  =======================================================
step       ``Executor``                    ``RemoteExecutor``
=========  ==============================  =======================================================
start      ``start(requests)``             ``start(orders)`` publishes them
poll       ``poll(timeout)``               nothing to implement: the scheduler reads the database
stop       ``stop(key, reason)``           nothing to implement: the worker reads the request
abandon    ``abandon(key)``                nothing to implement: the worker ends a run whose lease
                                           it has lost, and so does the warden of the run
recover    a run ends with its owner, and  ``start(orders)`` again, with the same orders, if no
           is lost                         worker has taken them; see ``start()``
=========  ==============================  =======================================================

``chroniker.testing.executors`` has the tests that any remote executor must pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol, Self

from chroniker.batches import Payload
from chroniker.processes.output import Recorder
from chroniker.processes.running_child import Outcome, RunRequest


class RunHandle(Protocol):
    """A run that an executor has started."""

    @property
    def key(self) -> int:
        """The primary key of the run."""

    @property
    def recorder(self) -> Recorder:
        """Output that was read and is not yet stored."""

    @property
    def written(self) -> dict[str, int]:
        """Stream name to the number of bytes that the run wrote to it."""

    @property
    def warden_pid(self) -> int:
        """Process id of the run's guard; 0 if it has none on this host."""

    @property
    def parts(self) -> tuple[int, int] | None:
        """Progress as last reported: ``(total, done)``."""

    @property
    def payload(self) -> Payload | None:
        """What the run of a batch gave; None for any other run."""

    parts_changed: bool
    """Whether ``parts`` differs from what was stored. The scheduler clears it."""

    def read_progress(self) -> None:
        """Bring ``parts`` up to date."""

    def outcome(self, shutdown_reason: str = "") -> Outcome:
        """How the run ended. Only valid once :meth:`Executor.poll` has returned it.

        ``shutdown_reason``: the scheduler has been asked to shut down, so a run that a signal has
        ended without a person's request is ``interrupted``, for this reason.
        """


class Executor(Protocol):
    """Executes claimed runs.

    Requests with a ``batch`` may share processes; an executor that has no such processes executes
    each by its command.

    Every handle that :meth:`start` returns is returned by :meth:`poll` exactly once, after the
    run and all that it started is dead; so is a run that could not be started, with an outcome
    that says why. ``key`` is the primary key of a run that :meth:`poll` has not yet returned.
    """

    def start(self, requests: Sequence[RunRequest]) -> Iterable[RunHandle]:
        """Start runs. Does not raise for a run that cannot be started."""

    def poll(self, timeout: float) -> Sequence[RunHandle]:
        """Wait up to ``timeout`` seconds for something to happen; the runs that have ended."""

    def stop(self, key: int, reason: str) -> None:
        """End a run: SIGTERM, the grace period, SIGKILL. Its outcome is ``stopped``."""

    def interrupt(self, key: int, reason: str) -> None:
        """End a run because the scheduler shuts down. Its outcome is ``interrupted``."""

    def abandon(self, key: int) -> None:
        """End a run whose lease was lost. Nothing that it did is recorded."""

    def extend(self, key: int, deadline: float) -> None:
        """Let a run continue until ``deadline`` (CLOCK_BOOTTIME, seconds)."""

    def descriptors(self) -> list[int]:
        """File descriptors that no other process may hold."""

    def close(self) -> None:
        """End the runs that are left, and release all resources."""


@dataclass(frozen=True, slots=True)
class RunOrder:
    """What a worker needs to execute a run. It is valid once.

    Whoever takes it first replaces the token in the database, so an order that is delivered twice,
    or late, does nothing.
    """

    run: int
    """The primary key of the run."""
    token: str
    """The token of the lease while no worker has taken the run."""
    fence: int
    """The fencing number of the claim."""
    queue: str = ""
    """The queue of the workers that may take it."""

    def dump(self) -> dict[str, int | str]:
        """Return it as JSON can hold it."""
        return asdict(self)

    @classmethod
    def load(cls, values: Mapping[str, int | str]) -> Self:
        """Read what :meth:`dump` returned. Raises KeyError, TypeError or ValueError."""
        return cls(
            run=int(values["run"]),
            token=str(values["token"]),
            fence=int(values["fence"]),
            queue=str(values.get("queue", "")),
        )


class RemoteExecutor(Protocol):
    """Carries orders to workers.

    It is made without arguments, once in each scheduler that needs it, and used by one thread.
    """

    def check(self) -> None:
        """Raise ExecutorNotReady if orders cannot be published now. Called before runs are claimed.

        It must not block for longer than a few seconds: the scheduler has leases to renew.
        """

    def start(self, orders: Sequence[RunOrder]) -> Mapping[int, str]:
        """Publish orders; return the reason for each run whose order was not published.

        It does not raise, and blocks no longer than :meth:`check`. Delivery may be late, repeated,
        or fail: an order that no worker has taken is published again, later and later. So the
        executor needs no memory of its own. An order that was not published, or whose publication
        is uncertain, is withdrawn: the slot is due again, and the order does nothing if it arrives.
        """

    def capacity(self, queue: str) -> int | None:
        """How many runs the workers of a queue execute at the same time.

        None: as many as the workers that have reported in the database (``Worker``) have
        processes. Nothing is published to a queue without such workers.
        """

    def close(self) -> None:
        """Release all resources. Orders that were published stay so."""
