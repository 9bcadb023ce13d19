from __future__ import annotations

import threading

from chroniker import background
from chroniker.engine.messenger import Messenger


def test_nothing_forks_while_a_thread_runs() -> None:
    entered, go_on = threading.Event(), threading.Event()

    def work() -> None:
        entered.set()
        go_on.wait(10)

    messenger = Messenger(lambda: None, list)  # type: ignore[arg-type, return-value]
    assert messenger.can_fork()
    assert background.run_in_background(work, name="test")
    assert entered.wait(10)
    try:
        assert background.busy() and not messenger.can_fork()
        assert not background.run_in_background(work, name="test"), "one of a name"
    finally:
        go_on.set()
        background.wait("test", 10)
    assert not background.busy() and messenger.can_fork()
    assert background.run_in_background(lambda: None, name="test")
    background.wait("test", 10)
