import asyncio
import uuid

from oban import worker
from work import note


@worker(queue="default")
class Work:
    async def process(self, job):
        run = uuid.uuid4().hex
        note("began", job.args["name"], run)
        await asyncio.sleep(job.args["seconds"])
        note("ended", job.args["name"], run)
