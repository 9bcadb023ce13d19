import asyncio
import os

import psycopg
from oban import Oban
from oban.schema import install

from .common import main, moment


def dsn():
    port, name = os.environ["PEERS_DB_PORT"], os.environ["PEERS_DB"]
    return f"postgresql://postgres@127.0.0.1:{port}/{name}"


async def with_pool(function):
    pool = await Oban.create_pool(dsn())
    try:
        return await function(pool)
    finally:
        await pool.close()


def prepare():
    asyncio.run(with_pool(install))


def add(number, due, seconds):
    from oban_worker import Work

    async def insert(pool):
        jobs = [
            Work.new({"name": n, "seconds": seconds}, scheduled_at=moment(due), state="scheduled")
            for n in range(number)
        ]
        await Oban(pool=pool).enqueue_many(jobs)

    asyncio.run(with_pool(insert))


def states():
    with psycopg.connect(dsn()) as connection:
        rows = dict(connection.execute("SELECT state, count(*) FROM oban_jobs GROUP BY 1"))
    return {
        "stuck": rows.get("executing", 0),
        "reported": sum(rows.get(name, 0) for name in ("retryable", "discarded", "cancelled")),
    }


def clear():
    with psycopg.connect(dsn()) as connection:
        connection.execute("TRUNCATE oban_jobs")


main(prepare=prepare, add=add, states=states, clear=clear)
