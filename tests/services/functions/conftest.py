"""One platform, and functions that all tests of it share."""

from collections.abc import AsyncIterator

import pytest
from function_ground import Ground

from freehold.adapters.postgres.pool import PostgresDatabase
from running import RunningPlatform

EVERYTHING = """
import os, sys, time, threading

print("loaded once")
LOADED = time.time()
calls = 0


class Odd(Exception):
    pass


def handler(event, context):
    global calls
    calls += 1
    act = (event or {}).get("act", "echo")
    if act == "echo":
        custom = context.client_context.custom
        return {
            "event": event, "calls": calls, "loaded": LOADED, "custom": custom,
            "tool": custom.bedrockAgentCoreToolName if custom else None,
            "name": context.function_name, "memory": context.memory_limit_in_mb,
            "request": context.aws_request_id, "arn": context.invoked_function_arn,
            "left": context.get_remaining_time_in_millis(),
            "user": context.identity.cognito_identity_id,
            "colour": os.environ.get("COLOUR"), "home": os.environ["LAMBDA_TASK_ROOT"],
            "main": threading.current_thread() is threading.main_thread(),
        }
    if act == "raise":
        raise Odd("no such city: " + event["city"])
    if act == "sleep":
        time.sleep(event["seconds"])
        return {"calls": calls, "loaded": LOADED}
    if act == "large":
        return "x" * (7 << 20)
    if act == "unfit":
        return {1, 2}
    if act == "exit":
        os._exit(3)
    return event["value"]
"""


@pytest.fixture(scope="session")
async def functions(platform: RunningPlatform) -> AsyncIterator[Ground]:
    if platform.facts["tier"] != "container":
        pytest.skip("a server of its own needs the container tier")
    database = PostgresDatabase(platform.database_url, pool_size_max=4, application_name="tests")
    ground = Ground(platform, database)
    await database.start()
    yield ground
    await ground.close()
    await database.close()


@pytest.fixture(scope="session")
async def everything(functions: Ground) -> str:
    """The name of a function that does what its event says."""
    return await functions.made(
        {"main.py": EVERYTHING}, environment={"COLOUR": "canary-red"}, seconds_max=2
    )
