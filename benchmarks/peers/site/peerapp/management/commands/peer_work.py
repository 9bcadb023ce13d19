from django.core.management.base import BaseCommand
from work import work


class Command(BaseCommand):
    help = "Do the work of a job."

    def add_arguments(self, parser):
        parser.add_argument("name")
        parser.add_argument("seconds", type=float)

    def handle(self, *args, **options):
        # django-chroniker passes both as positional arguments of call_command().
        work(options["name"], options["seconds"])
