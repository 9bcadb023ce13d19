from __future__ import annotations

import ctypes
import faulthandler
import json
import logging
import os
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from chroniker import current_run
from chroniker.models import Job


def write_pid(path: Path) -> None:
    """Create a file with the process ID. At once, because tests wait for it to exist."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.write_text(str(os.getpid()))
    unfinished.replace(path)


class Command(BaseCommand):
    help = "Do what a test needs a job to do."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action")
        parser.add_argument("words", nargs="*")

    def handle(self, *args: Any, **options: Any) -> None:
        getattr(self, options["action"])(*options["words"])

    def say(self, *words: str) -> None:
        self.stdout.write(" ".join(words))

    def use_database(self) -> None:
        """Read from the site's database and write to it."""
        Job.objects.filter(pk=0).update(description="")
        self.stdout.write(f"{Job.objects.count()} jobs")

    def write_stderr(self, *words: str) -> None:
        self.stderr.write(" ".join(words))

    def exit(self, code: str) -> None:
        sys.exit(int(code))

    def exit_with_message(self, *words: str) -> None:
        sys.exit(" ".join(words))

    def exit_at_once(self, code: str) -> None:
        os._exit(int(code))

    def crash(self) -> None:
        faulthandler.disable()  # of the test runner
        ctypes.string_at(0)

    def fail(self, *words: str) -> None:
        raise ValueError(" ".join(words))

    def refuse(self, *words: str) -> None:
        raise CommandError(" ".join(words))

    def fail_without_stderr(self, how: str) -> None:
        """Fail after stderr was closed or discarded."""
        if how == "descriptor":
            os.close(2)
        elif how == "stream":
            sys.stderr.close()
        else:
            system: Any = sys
            system.stderr = None
        raise ValueError("boom")

    def drop_streams(self) -> None:
        system: Any = sys
        system.stdout = system.stderr = None

    def exit_with_unprintable_code(self) -> None:
        class Strange:
            def __str__(self) -> str:
                raise RuntimeError

        raise SystemExit(Strange())

    def fail_with_own_files(self, path: str) -> None:
        """Close all descriptors, open other files, and fail, as a daemon may."""
        os.closerange(3, 256)
        for _ in range(64):
            os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        raise ValueError("boom")

    def signal_self(self, number: str) -> None:
        os.kill(os.getpid(), int(number))

    def print_and_die(self, lines: str, rest: str) -> None:
        for number in range(int(lines)):
            print(f"line {number}")
        print(rest, end="")
        os.kill(os.getpid(), signal.SIGKILL)

    def leak_secret(self, name: str) -> None:
        """Raise an exception that contains a secret in every place."""
        stolen = os.environ[name]
        logging.getLogger("bookshop.vault").warning("opening with %s", stolen)
        try:
            raise KeyError(stolen)
        except KeyError as error:
            raise ValueError(f"no vault opens with {stolen}") from error

    def say_current_run(self) -> None:
        run = current_run()
        assert run is not None
        found = asdict(run) | {
            "scheduled_for": run.scheduled_for.isoformat(), "class": type(run).__name__,
        }  # fmt: skip
        self.stdout.write(json.dumps(found))

    def say_environment(self, *names: str) -> None:
        """As a program sees it that the command starts."""
        code = (
            "import json, os, sys\n"
            "print(json.dumps([os.environb[n.encode()].decode() for n in sys.argv[1:]]))"
        )
        subprocess.run([sys.executable, "-c", code, *names], check=True)

    def start_span(self, name: str) -> None:
        """As the site's own instrumentation does."""
        from opentelemetry import trace

        with trace.get_tracer("bookshop").start_as_current_span(name):
            self.stdout.write("traced")

    def delete_own_job(self) -> None:
        run = current_run()
        assert run is not None
        Job.objects.filter(name=run.job_name).delete()

    def print_env(self, name: str) -> None:
        self.stdout.write(os.environ.get(name, ""))

    def warn(self, *words: str) -> None:
        warnings.simplefilter("default")
        warnings.warn(" ".join(words), stacklevel=1)

    def log(self, *words: str) -> None:
        logging.getLogger("bookshop.import").info(" ".join(words))

    def sleep(self, seconds: str, touch: str = "") -> None:
        if touch:
            write_pid(Path(touch))
        time.sleep(float(seconds))

    def once(self, touch: str) -> None:
        """Take a minute, unless it was started before."""
        if not Path(touch).exists():
            self.sleep("60", touch)

    def say_and_sleep(self, text: str, seconds: str) -> None:
        self.stdout.write(text)
        time.sleep(float(seconds))

    def wait_for(self, touch: str, path: str) -> None:
        """Until a file exists."""
        write_pid(Path(touch))
        while not Path(path).exists():
            time.sleep(0.05)

    def append_line(self, path: str, *words: str) -> None:
        with open(path, "a") as file:
            file.write(" ".join(words) + "\n")

    def progress_in_transaction(self, told: str, seen: str) -> None:
        """Stay in the transaction until the file ``seen`` exists, at most a minute."""
        until = time.monotonic() + 60
        with transaction.atomic():
            Job.update_progress(total_parts=77, total_parts_complete=13)
            Path(told).touch()
            while not Path(seen).exists() and time.monotonic() < until:
                time.sleep(0.02)

    def report_progress_to(self, number: str) -> None:
        for done in range(1, int(number) + 1):
            Job.update_progress(total_parts=int(number), total_parts_complete=done)

    def ignore_sigterm(self, path: str) -> None:
        """Ignore SIGTERM and leave a grandchild in its own session that ignores it, too."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        code = (
            "import os,signal,sys,time\n"
            "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            "if os.fork(): os._exit(0)\n"
            "os.setsid()\n"
            "if os.fork(): os._exit(0)\n"
            "open(sys.argv[1], 'w').write(str(os.getpid()))\n"
            "time.sleep(300)\n"
        )
        subprocess.run([sys.executable, "-c", code, path], check=True)
        time.sleep(300)

    def hold_write_transaction(self, seconds: str) -> None:
        """Hold a write transaction, which on SQLite blocks every other writer."""
        with transaction.atomic():
            Job.objects.update(description="written")
            time.sleep(float(seconds))

    def allocate(self, megabytes: str) -> None:
        allocated = bytearray(int(megabytes) * 2**20)
        self.stdout.write(f"{len(allocated)}")

    def flood(self, megabytes: str, kind: str = "lines") -> None:
        block = {
            "lines": b"0123456789abcdef" * 63 + b"0123456789abcde\n",
            "solid": b"0123456789abcdef" * 64,
            "binary": b"\0\xff\xfe\x80abc" * 146 + b"\0\0",
        }[kind] * 1024
        os.write(1, b"HEAD\n")
        for _ in range(int(megabytes)):
            view = memoryview(block)
            while view:
                view = view[os.write(1, view) :]
        os.write(1, b"\nTAIL\n")
