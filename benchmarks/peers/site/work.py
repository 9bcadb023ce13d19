"""What every job does: note when it began, sleep, note when it ended."""

import os
import time
import uuid


def work(name, seconds=0.0):
    run = uuid.uuid4().hex
    note("began", name, run)
    if float(seconds):
        time.sleep(float(seconds))
    note("ended", name, run)


def note(what, name, run):
    line = f"{what} {name} {time.time():.4f} {run}\n"
    file = os.open(os.environ["PEERS_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)
