"""Whose function an ARN names, and which instance gets an event: instances that a test holds."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from freehold.kernel.errors import Conflict, NotFound, ValidationFailed
from freehold.ports.functions import FunctionFailed, Invoked
from freehold.services.functions.model import Function
from freehold.services.functions.ports import InstanceBroke, InstanceSpec, InstanceState
from freehold.services.functions.routing import FunctionRouter

TENANT, OTHER, REGION = "111122223333", "999900001111", "us-east-1"


class Known:
    """What `FunctionRouter` asks of the service: two tenants with a function of the same name."""

    async def find(self, tenant: str, name: str) -> Function | None:
        if name != "greet":
            return None
        return Function(
            id="f", arn=f"arn:aws:lambda:{REGION}:{tenant}:function:greet", name=name,
            runtime_id=f"runtime-of-{tenant}", seconds_max=30, memory_mib=128,
        )  # fmt: skip


class Held:
    """`services/functions/ports.Instances`: answers when the test lets it."""

    def __init__(self) -> None:
        self.now = 1
        self.sent: list[tuple[str, str, dict[str, Any]]] = []
        self.stopped: list[str] = []
        self.free = asyncio.Event()
        self.free.set()
        self.answer: Callable[[dict[str, Any]], bytes] = lambda asked: json.dumps(
            {"value": asked["event"]}
        ).encode()

    async def version(self, tenant: str, runtime_id: str) -> int:
        if not self.now:
            raise Conflict("it is being built")
        return self.now

    async def send(
        self, tenant: str, runtime_id: str, session_id: str, body: bytes, *, request_id: str
    ) -> bytes:
        self.sent.append((runtime_id, session_id, json.loads(body)))
        await self.free.wait()
        return self.answer(json.loads(body))

    async def stop(self, tenant: str, runtime_id: str, session_id: str) -> None:
        self.stopped.append(session_id)

    async def create(self, tenant: str, spec: InstanceSpec) -> str:
        raise AssertionError

    async def update(self, tenant: str, runtime_id: str, spec: InstanceSpec) -> None:
        raise AssertionError

    async def delete(self, tenant: str, runtime_id: str) -> None:
        raise AssertionError

    async def state(self, tenant: str, runtime_id: str) -> InstanceState:
        raise AssertionError


class Aws:
    """`services/functions/ports.RemoteFunctions`."""

    def __init__(self) -> None:
        self.roles = {(TENANT, "arn:aws:iam::1:role/r")}

    def may_call(self, tenant: str, role: str) -> bool:
        return (tenant, role) in self.roles

    async def invoke(self, invoked: Invoked) -> Any:
        return f"AWS ran {invoked.arn.rpartition(':')[2]}"


@pytest.fixture
def held() -> Held:
    return Held()


@pytest.fixture
def router(held: Held) -> FunctionRouter:
    return FunctionRouter(
        functions=Known(), instances=held, remote=Aws(), region=REGION, instances_max=2  # type: ignore[arg-type]
    )  # fmt: skip


def invoked(name: str = "greet", event: Any = 1, **more: Any) -> Invoked:
    tenant = more.get("tenant", TENANT)
    values: dict[str, Any] = {
        "tenant": tenant, "arn": f"arn:aws:lambda:{REGION}:{tenant}:function:{name}",
        "event": event, "context": {}, "request_id": "call-1", "seconds_max": 5,
    }  # fmt: skip
    return Invoked(**{**values, **more})


async def test_an_own_arn_runs_here_and_another_at_aws(router: FunctionRouter, held: Held) -> None:
    assert await router.invoke(invoked(event={"a": 1})) == {"a": 1}
    elsewhere = f"arn:aws:lambda:eu-west-1:{TENANT}:function:greet"
    assert await router.invoke(invoked(arn=elsewhere)) == "AWS ran greet"
    theirs = f"arn:aws:lambda:{REGION}:{OTHER}:function:greet"
    assert await router.invoke(invoked(arn=theirs)) == "AWS ran greet"
    assert [runtime for runtime, _, _ in held.sent] == [f"runtime-of-{TENANT}"]


async def test_an_own_arn_that_names_nothing_is_awss_only_where_the_operator_gave_keys(
    router: FunctionRouter,
) -> None:
    with pytest.raises(NotFound, match="'absent' does not exist"):
        await router.invoke(invoked("absent"))
    role = "arn:aws:iam::1:role/r"
    assert await router.invoke(invoked("absent", role=role)) == "AWS ran absent"


@pytest.mark.parametrize(
    "arn", ["greet", "arn:aws:s3:::bucket", "arn:aws:lambda:us-east-1:1:layer:x"]
)
async def test_what_is_no_functions_arn_is_refused(router: FunctionRouter, arn: str) -> None:
    with pytest.raises(ValidationFailed, match="not the ARN of a function"):
        await router.invoke(invoked(arn=arn))


async def test_tenants_share_no_instance(router: FunctionRouter, held: Held) -> None:
    await router.invoke(invoked())
    await router.invoke(invoked(tenant=OTHER))
    (_, first, _), (_, second, _) = held.sent
    assert first != second


async def test_new_code_gets_new_instances(router: FunctionRouter, held: Held) -> None:
    await router.invoke(invoked())
    await router.invoke(invoked())
    held.now = 2
    await router.invoke(invoked())
    sessions = [session for _, session, _ in held.sent]
    assert sessions[0] == sessions[1] != sessions[2]


async def test_an_event_beyond_the_bound_waits_and_not_for_ever(
    router: FunctionRouter, held: Held
) -> None:
    held.free.clear()
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(router.invoke(invoked(event=n))) for n in range(2)]
        while len(held.sent) < 2:
            await asyncio.sleep(0)
        with pytest.raises(FunctionFailed) as late:
            await router.invoke(invoked(seconds_max=0.05))
        assert late.value.type == "Timeout"
        waiting = group.create_task(router.invoke(invoked(event=2)))
        await asyncio.sleep(0)
        assert len(held.sent) == 2
        held.free.set()
    assert [task.result() for task in (*running, waiting)] == [0, 1, 2]
    assert len({session for _, session, _ in held.sent}) == 2


async def test_an_event_that_nobody_waits_for_ends_its_instance(
    router: FunctionRouter, held: Held
) -> None:
    held.free.clear()
    with pytest.raises(FunctionFailed):
        await router.invoke(invoked(seconds_max=0.05))
    await router.close()
    held.free.set()
    assert held.stopped == [held.sent[0][1]]
    await router.invoke(invoked())
    assert held.sent[1][1] != held.sent[0][1]


async def test_the_instance_is_told_how_long_it_has(router: FunctionRouter, held: Held) -> None:
    await router.invoke(invoked(seconds_max=2.5))
    await router.invoke(invoked(seconds_max=300))
    assert [asked["timeoutMs"] for _, _, asked in held.sent] == [2500, 30_000]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"<html>", "Runtime.ExitError"),
        (b"[]", "Runtime.ExitError"),
        (b'{"busy": true}', "Busy"),
        (b'{"error": {"errorType": "Sandbox.Timedout", "errorMessage": "late"}}', "Timeout"),
    ],
)
async def test_an_instance_that_answers_nothing_of_use_is_not_used_again(
    router: FunctionRouter, held: Held, answer: bytes, kind: str
) -> None:
    good, held.answer = held.answer, lambda _: answer
    with pytest.raises(FunctionFailed) as failed:
        await router.invoke(invoked())
    assert failed.value.type == kind
    held.answer = good
    await router.invoke(invoked())
    assert held.sent[0][1] != held.sent[1][1]


async def test_one_that_raised_is_used_again(router: FunctionRouter, held: Held) -> None:
    good = held.answer
    held.answer = lambda _: b'{"error": {"errorType": "ValueError", "errorMessage": "no"}}'
    with pytest.raises(FunctionFailed, match="no"):
        await router.invoke(invoked())
    held.answer = good
    await router.invoke(invoked())
    assert held.sent[0][1] == held.sent[1][1]


async def test_a_death_is_told(router: FunctionRouter, held: Held) -> None:
    def die(_: Any) -> bytes:
        raise InstanceBroke("it ran out of memory")

    held.answer = die
    with pytest.raises(FunctionFailed, match="out of memory") as failed:
        await router.invoke(invoked())
    assert (failed.value.type, failed.value.unreached) == ("Runtime.ExitError", False)


async def test_what_is_not_built_yet_may_be_tried_again(router: FunctionRouter, held: Held) -> None:
    held.now = 0
    with pytest.raises(FunctionFailed, match="does not run yet") as failed:
        await router.invoke(invoked())
    assert failed.value.unreached
