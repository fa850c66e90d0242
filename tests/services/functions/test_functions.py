"""Functions of this platform, in real sandboxes, by Lambda's contract."""

import asyncio
from typing import Any

import pytest
from function_ground import Ground

from freehold.kernel.errors import AccessDenied, Conflict, NotFound, ValidationFailed
from freehold.ports.functions import FunctionFailed


async def test_a_handler_gets_its_event_and_lambdas_context(
    functions: Ground, everything: str
) -> None:
    custom = {"bedrockAgentCoreToolName": "t___echo", "bedrockAgentCoreMessageVersion": "1.0"}
    told = await functions.invoke(everything, {"n": [1, None, "ü"]}, context=custom)
    assert told["event"] == {"n": [1, None, "ü"]}
    assert told["custom"] == custom
    assert told["tool"] == "t___echo"
    assert told["name"] == everything
    assert told["memory"] == "256"
    assert told["request"] == "call-1"
    assert told["arn"].endswith(f":function:{everything}")
    assert 500 < told["left"] <= 2000
    assert told["user"] is None
    assert told["colour"] == "canary-red"
    assert told["main"]


@pytest.mark.parametrize("value", [None, "text", 3.5, [], {"a": {"b": True}}])
async def test_any_json_comes_back(functions: Ground, everything: str, value: Any) -> None:
    assert await functions.invoke(everything, {"act": "give", "value": value}) == value


async def test_what_a_handler_raises_is_told_as_lambda_tells_it(
    functions: Ground, everything: str
) -> None:
    with pytest.raises(FunctionFailed) as failed:
        await functions.invoke(everything, {"act": "raise", "city": "Ys"})
    assert (failed.value.type, failed.value.message) == ("Odd", "no such city: Ys")


async def test_one_instance_serves_one_event_after_another(
    functions: Ground, everything: str
) -> None:
    first = await functions.invoke(everything)
    second = await functions.invoke(everything)
    assert second["loaded"] == first["loaded"]
    assert second["calls"] == first["calls"] + 1


async def test_events_at_the_same_time_get_instances_of_their_own_up_to_a_bound(
    functions: Ground, everything: str
) -> None:
    before = len(functions.instances.sessions)
    event = {"act": "sleep", "seconds": 0.5}
    told = await asyncio.gather(*(functions.invoke(everything, event) for _ in range(4)))
    assert len({each["loaded"] for each in told}) == 2
    assert len(set(functions.instances.sessions[before:])) == 2


async def test_a_handler_out_of_time_is_ended_and_the_next_event_gets_a_new_instance(
    functions: Ground, everything: str
) -> None:
    before = await functions.invoke(everything)
    with pytest.raises(FunctionFailed) as failed:
        await functions.invoke(everything, {"act": "sleep", "seconds": 60})
    assert failed.value.type == "Timeout"
    assert "timed out after 2.00 seconds" in failed.value.message
    after = await functions.invoke(everything)
    assert after["loaded"] != before["loaded"]


async def test_a_caller_that_waits_no_longer_has_the_instance_stopped(
    functions: Ground, everything: str
) -> None:
    with pytest.raises(FunctionFailed) as failed:
        await functions.invoke(everything, {"act": "sleep", "seconds": 60}, seconds_max=0.7)
    assert failed.value.type == "Timeout"
    await functions.router.close()  # what it is ending
    used = functions.instances.sessions[-1]
    await functions.invoke(everything)
    assert functions.instances.sessions[-1] != used


@pytest.mark.parametrize(
    ("act", "kind"),
    [
        ("large", "Function.ResponseSizeTooLarge"),
        ("unfit", "Runtime.MarshalError"),
        ("exit", "Runtime.ExitError"),
    ],
)
async def test_an_answer_that_is_none_is_a_failure_of_the_function(
    functions: Ground, everything: str, act: str, kind: str
) -> None:
    with pytest.raises(FunctionFailed) as failed:
        await functions.invoke(everything, {"act": act})
    assert failed.value.type == kind
    assert await functions.invoke(everything, {"act": "give", "value": 1}) == 1


async def test_an_event_that_is_too_large_is_refused(functions: Ground, everything: str) -> None:
    with pytest.raises(ValidationFailed, match="at most"):
        await functions.invoke(everything, "x" * (6 << 20))


async def test_events_and_answers_of_megabytes_pass(functions: Ground, everything: str) -> None:
    value = "ü" * (5 << 19)
    assert await functions.invoke(everything, {"act": "give", "value": value}) == value


async def test_new_code_answers_once_it_is_built(functions: Ground) -> None:
    name = await functions.made(
        {"pkg/main.py": "def handler(e, c): return 1"}, handler="pkg.main.handler"
    )
    assert await functions.invoke(name) == 1
    changed = await functions.wanted(
        {"main.py": "def run(e, c): return 2"}, name=name, handler="main.run"
    )
    await functions.service.update(functions.tenant, changed)
    await functions.ready(name)
    assert await functions.invoke(name) == 2
    await functions.service.delete(functions.tenant, name)
    with pytest.raises(NotFound):
        await functions.invoke(name)


async def test_a_module_that_cannot_be_imported_is_told_in_lambdas_words(functions: Ground) -> None:
    name = await functions.made({"main.py": "import absent_module\ndef handler(e, c): pass"})
    with pytest.raises(FunctionFailed, match="Unable to import module 'main'") as failed:
        await functions.invoke(name)
    assert failed.value.type == "Runtime.ImportModuleError"


async def test_a_name_is_taken_once(functions: Ground, everything: str) -> None:
    again = await functions.wanted({"main.py": "def handler(e, c): pass"}, name=everything)
    with pytest.raises(Conflict, match="already"):
        await functions.service.create(functions.tenant, again)


async def test_another_tenants_function_is_never_looked_for(
    functions: Ground, everything: str
) -> None:
    with pytest.raises(AccessDenied, match="no keys"):
        await functions.invoke(everything, tenant="999900001111")
    own = f"arn:aws:lambda:{functions.region}:999900001111:function:{everything}"
    with pytest.raises(NotFound):
        await functions.invoke(everything, tenant="999900001111", arn=own)


async def test_an_alias_is_not_taken_for_the_function(functions: Ground, everything: str) -> None:
    arn = f"arn:aws:lambda:{functions.region}:{functions.tenant}:function:{everything}"
    assert (await functions.invoke(everything, arn=f"{arn}:$LATEST"))["name"] == everything
    with pytest.raises(ValidationFailed, match="no versions and aliases"):
        await functions.invoke(everything, arn=f"{arn}:prod")


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"handler": "absent.handler"}, "no absent.py in the zip"),
        ({"handler": "main"}, "handler:"),
        ({"handler": "../main.handler"}, "handler:"),
        ({"name": "a b"}, "name:"),
        ({"runtime": "PYTHON_2_7"}, "runtime:"),
        ({"seconds_max": 901}, "timeoutSeconds"),
    ],
)
async def test_what_cannot_be_a_function_is_refused_before_anything_is_made(
    functions: Ground, more: dict[str, Any], why: str
) -> None:
    wanted = await functions.wanted({"main.py": "def handler(e, c): pass"}, **more)
    with pytest.raises(ValidationFailed, match=why):
        await functions.service.create(functions.tenant, wanted)


async def test_a_bundle_with_the_platforms_own_file_is_refused(functions: Ground) -> None:
    files = {"main.py": "def handler(e, c): pass", "_freehold_function.py": ""}
    with pytest.raises(ValidationFailed, match="platform's own"):
        await functions.service.create(functions.tenant, await functions.wanted(files))


async def test_it_runs_without_isolation_too_for_development(functions: Ground) -> None:
    files = {"main.py": "def handler(event, context): return [event, context.function_name]"}
    name = await functions.made(files, tags={"freehold:tier": "process"})
    assert await functions.invoke(name, 3) == [3, name]


async def test_its_environment_is_sealed_at_rest(functions: Ground, everything: str) -> None:
    function = await functions.service.get(functions.tenant, everything)
    assert "canary-red" not in str(function.document)
    assert functions.service.environment(function) == {"COLOUR": "canary-red"}
