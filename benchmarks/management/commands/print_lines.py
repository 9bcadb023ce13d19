"""The job that benchmarks.lines measures."""

from __future__ import annotations

from django.core.management.base import BaseCommand, CommandParser


class Command(BaseCommand):
    help = "Call print() for each of many lines."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("lines", type=int)

    def handle(self, *args: object, lines: int, **options: object) -> None:
        for number in range(lines):
            print(f"line {number} of the report, with a few words in it")
