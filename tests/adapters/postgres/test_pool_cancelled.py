"""Who is cancelled while they wait for a connection does not go on with it."""

import asyncio

from freehold.adapters.postgres.pool import PostgresDatabase


async def test_a_cancellation_that_comes_together_with_a_connection_is_not_lost(
    database_dsn: str,
) -> None:
    database = PostgresDatabase(database_dsn, pool_size_max=1, application_name="cancelled")
    await database.start()

    async def use_and_stay() -> None:
        async with database.connection():
            pass
        await asyncio.sleep(3600)

    try:
        # At which turn of the loop the two come together is the loop's affair: each is tried.
        for turns in range(60):
            async with database.connection():
                waiting = asyncio.create_task(use_and_stay())
                for _ in range(5):
                    await asyncio.sleep(0)
                returning = asyncio.create_task(_turns_then_cancel(turns % 12, waiting))
            await returning
            done, _ = await asyncio.wait([waiting], timeout=10)
            assert done and waiting.cancelled(), f"it went on, cancelled after {turns % 12} turns"
        async with database.connection() as connection:
            await connection.execute("SELECT 1")
    finally:
        await database.close()


async def _turns_then_cancel(turns: int, task: "asyncio.Task[None]") -> None:
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
