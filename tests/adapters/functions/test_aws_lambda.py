"""AWS Lambda by its HTTP API. boto3 calls the fake too, so that the fake speaks as AWS does."""

import asyncio
import base64
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from lambda_ground import (
    KEY_ID,
    REGION,
    ROLE,
    SECRET,
    STRANGER,
    TENANT,
    TOKEN,
    boto3_client,
    fake_and_adapter,
    invoked,
    roles_file,
)

from freehold.adapters.aws_signing.roles import OperatorRoles, RolesUnreadable
from freehold.adapters.functions.aws import PAYLOAD_BYTES_MAX, AwsLambda
from freehold.kernel.errors import AccessDenied, NotFound, Unavailable, ValidationFailed
from freehold.ports.functions import FunctionFailed
from freehold.testing.fake_lambda import FakeLambda

Both = tuple[FakeLambda, AwsLambda]


@pytest.fixture
async def both(tmp_path: Path) -> AsyncIterator[Both]:
    async with fake_and_adapter(tmp_path) as both:
        yield both


def _fail(event: Any, context: Any) -> None:
    raise ValueError(f"no such city: {event['city']}")


def _tell(event: Any, context: Any) -> Any:
    return {"event": event, "custom": context.client_context.custom}


async def test_boto3_takes_the_fake_for_lambda(both: Both) -> None:
    fake, _ = both
    arn = fake.add("tell", _tell)
    fake.add("fail", _fail)
    client = boto3_client(fake)
    context = base64.b64encode(json.dumps({"custom": {"a": "b"}}).encode()).decode()

    def ask() -> tuple[Any, Any, Any]:
        told = client.invoke(FunctionName=arn, Payload=b'{"x": 1}', ClientContext=context)
        failed = client.invoke(FunctionName="fail", Payload=b'{"city": "Ys"}')
        with pytest.raises(ClientError) as absent:
            client.invoke(FunctionName="absent")
        return json.load(told["Payload"]), failed, absent.value

    told, failed, absent = await asyncio.to_thread(ask)
    await asyncio.to_thread(client.close)
    assert told == {"event": {"x": 1}, "custom": {"a": "b"}}
    assert failed["FunctionError"] == "Unhandled"
    assert json.load(failed["Payload"])["errorType"] == "ValueError"
    assert absent.response["Error"]["Code"] == "ResourceNotFoundException"


async def test_the_fake_refuses_another_key_as_aws_does(both: Both) -> None:
    fake, _ = both
    client = boto3_client(fake, secret="another")

    def ask() -> Any:
        with pytest.raises(ClientError) as refused:
            client.invoke(FunctionName=fake.add("tell", _tell))
        client.close()
        return refused.value

    assert (await asyncio.to_thread(ask)).response["Error"]["Code"] == "InvalidSignatureException"


async def test_a_function_gets_the_event_and_what_is_told_of_the_call(both: Both) -> None:
    fake, adapter = both
    arn = fake.add("tell", _tell)
    context = {"bedrockAgentCoreToolName": "t___x", "bedrockAgentCorePropagatedHeaders": {"A": "b"}}
    value = await adapter.invoke(invoked(arn, {"city": "Rabat", "n": [1, None]}, context=context))
    assert value == {"event": {"city": "Rabat", "n": [1, None]}, "custom": context}


@pytest.mark.parametrize("value", [None, "text", 3, [], {"a": {"b": True}}])
async def test_any_json_comes_back(both: Both, value: Any) -> None:
    fake, adapter = both
    assert await adapter.invoke(invoked(fake.add("give", lambda *_: value))) == value


async def test_what_a_function_raises_is_told(both: Both) -> None:
    fake, adapter = both
    with pytest.raises(FunctionFailed) as failed:
        await adapter.invoke(invoked(fake.add("fail", _fail), {"city": "Ys"}))
    assert (failed.value.type, failed.value.message) == ("ValueError", "no such city: Ys")
    assert not failed.value.unreached


async def test_a_function_that_is_not_there_is_not_found(both: Both) -> None:
    _, adapter = both
    with pytest.raises(NotFound, match="no function arn:aws:lambda"):
        await adapter.invoke(invoked("arn:aws:lambda:us-east-1:444455556666:function:absent"))


async def test_aws_refusing_is_told_by_its_code_and_not_by_its_words(both: Both) -> None:
    fake, adapter = both
    arn = fake.add("tell", _tell)
    fake.refusal = (
        403, "AccessDeniedException", "User: arn:aws:iam::444455556666:user/operator is not allowed"
    )  # fmt: skip
    with pytest.raises(FunctionFailed, match="AccessDeniedException") as failed:
        await adapter.invoke(invoked(arn))
    assert failed.value.unreached
    assert "operator" not in str(failed.value)


async def test_too_many_at_once_may_be_tried_again(both: Both) -> None:
    fake, adapter = both
    fake.refusal = (429, "TooManyRequestsException", "Rate exceeded")
    with pytest.raises(FunctionFailed) as failed:
        await adapter.invoke(invoked(fake.add("tell", _tell)))
    assert failed.value.unreached


async def test_no_answer_in_time_is_a_timeout(both: Both) -> None:
    fake, adapter = both
    fake.released.clear()
    with pytest.raises(FunctionFailed) as failed:
        await adapter.invoke(invoked(fake.add("tell", _tell), seconds_max=0.1))
    fake.released.set()
    assert failed.value.type == "Timeout"


async def test_an_event_that_is_too_large_is_never_sent(both: Both) -> None:
    fake, adapter = both
    with pytest.raises(ValidationFailed, match="at most"):
        await adapter.invoke(invoked(fake.add("tell", _tell), "x" * PAYLOAD_BYTES_MAX))
    assert fake.invoked == []


async def test_headers_that_do_not_fit_are_refused_in_words(both: Both) -> None:
    fake, adapter = both
    context = {"bedrockAgentCorePropagatedHeaders": {"Authorization": "x" * 4000}}
    with pytest.raises(ValidationFailed, match="3583 bytes"):
        await adapter.invoke(invoked(fake.add("tell", _tell), context=context))


@pytest.mark.parametrize(
    "more", [{"tenant": STRANGER}, {"role": ""}, {"role": "arn:aws:iam::444455556666:role/other"}]
)
async def test_nobody_signs_but_the_tenant_and_role_of_the_list(
    both: Both, more: dict[str, str]
) -> None:
    fake, adapter = both
    arn = fake.add("tell", _tell)
    with pytest.raises(AccessDenied, match="gave no keys"):
        await adapter.invoke(invoked(arn, **more))
    assert not adapter.may_call(more.get("tenant", TENANT), more.get("role", ROLE))
    assert fake.invoked == []


async def test_no_key_is_in_an_error_a_log_or_a_repr(
    both: Both, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fake, adapter = both
    caplog.set_level(logging.DEBUG)
    arn = fake.add("fail", _fail)
    said = []
    for refusal in (None, (500, "ServiceException", "x")):
        fake.refusal = refusal
        with pytest.raises(FunctionFailed) as failed:
            await adapter.invoke(invoked(arn, {"city": "Ys"}))
        said += [str(failed.value), repr(failed.value), repr(failed.value.__cause__)]
    broken = tmp_path / "broken.toml"
    broken.write_text(f"secret = {SECRET}")
    broken.chmod(0o600)
    with pytest.raises(RolesUnreadable) as unreadable:
        OperatorRoles(broken)
    roles = OperatorRoles(roles_file(tmp_path))
    said += [str(unreadable.value), repr(unreadable.value.__cause__)]
    said += [repr(roles), repr(vars(roles)), caplog.text]
    found = "\n".join(said)
    assert SECRET not in found
    assert TOKEN not in found


# -- the operator's file


async def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = roles_file(tmp_path)
    path.chmod(0o640)
    with pytest.raises(RolesUnreadable, match="only its owner"):
        OperatorRoles(path)


async def test_a_changed_file_counts_at_once_and_a_broken_one_lets_nobody_sign(
    tmp_path: Path,
) -> None:
    roles = OperatorRoles(roles_file(tmp_path))
    assert roles.has(TENANT, ROLE)
    roles_file(tmp_path, {"tenant": STRANGER, "role": ROLE, "keys": "environment"})
    assert not roles.has(TENANT, ROLE)
    assert roles.has(STRANGER, ROLE)
    (tmp_path / "roles.json").write_text("{")
    with pytest.raises(Unavailable):
        roles.has(STRANGER, ROLE)


async def test_keys_of_the_environment_are_used_only_where_an_entry_says_so(tmp_path: Path) -> None:
    path = roles_file(tmp_path, {"tenant": TENANT, "role": ROLE, "keys": "environment"})
    environment = {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET}
    roles = OperatorRoles(path, environment=environment)
    sign = await roles.signer(TENANT, ROLE, service="lambda", region=REGION)
    assert KEY_ID in sign("GET", "https://x.test/", {}, b"")["Authorization"]
    with pytest.raises(Unavailable):
        await OperatorRoles(path, environment={}).signer(
            TENANT, ROLE, service="lambda", region=REGION
        )


async def test_a_role_may_be_for_some_services_only(tmp_path: Path) -> None:
    entry = {
        "tenant": TENANT, "role": ROLE, "access_key_id": KEY_ID, "secret_access_key": SECRET,
        "services": ["lambda"],
    }  # fmt: skip
    roles = OperatorRoles(roles_file(tmp_path, entry))
    await roles.signer(TENANT, ROLE, service="lambda", region=REGION)
    with pytest.raises(AccessDenied, match="not for s3"):
        await roles.signer(TENANT, ROLE, service="s3", region=REGION)


@pytest.mark.parametrize(
    "entry",
    [
        {"role": ROLE, "access_key_id": "a", "secret_access_key": "b"},
        {"tenant": TENANT, "role": "gateway", "access_key_id": "a", "secret_access_key": "b"},
        {"tenant": TENANT, "role": ROLE},
        {"tenant": TENANT, "role": ROLE, "access_key_id": "a", "keys": "environment", "x": 1},
    ],
)
async def test_an_entry_that_lacks_something_is_refused(
    tmp_path: Path, entry: dict[str, Any]
) -> None:
    with pytest.raises(RolesUnreadable):
        OperatorRoles(roles_file(tmp_path, entry))
