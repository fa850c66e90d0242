"""The fake of AWS Lambda, the way to it that the platform uses, and boto3's."""

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from botocore.config import Config

from aws_clients import aws_client
from freehold.adapters.aws_signing.roles import OperatorRoles
from freehold.adapters.functions.aws import AwsLambda
from freehold.ports.functions import Invoked
from freehold.processes.web import make_web
from freehold.settings import load
from freehold.testing.fake_lambda import FakeLambda

TENANT, STRANGER = "111122223333", "999900001111"
ROLE = "arn:aws:iam::444455556666:role/gateway"
KEY_ID, SECRET, TOKEN = "AKIAFAKEFAKEFAKEFAKE", "canary-secret-of-aws", "canary-session-token"
REGION = "us-east-1"


def roles_file(directory: Path, *entries: dict[str, Any]) -> Path:
    path = directory / "roles.json"
    given = entries or (
        {
            "tenant": TENANT, "role": ROLE, "access_key_id": KEY_ID, "secret_access_key": SECRET,
            "session_token": TOKEN,
        },
    )  # fmt: skip
    path.write_text(json.dumps({"roles": given}))
    path.chmod(0o600)
    return path


@contextlib.asynccontextmanager
async def fake_and_adapter(directory: Path) -> AsyncIterator[tuple[FakeLambda, AwsLambda]]:
    fake = FakeLambda(access_key_id=KEY_ID, secret_access_key=SECRET, session_token=TOKEN)
    web = make_web(load({"FREEHOLD_OUTBOUND_PRIVATE_HOSTS": "127.0.0.1"}))
    async with fake:
        await web.start()
        try:
            roles = OperatorRoles(roles_file(directory))
            yield fake, AwsLambda(web, roles, endpoint=fake.endpoint)
        finally:
            await web.close()


def boto3_client(fake: FakeLambda, *, secret: str = SECRET) -> Any:
    return aws_client(
        "lambda", endpoint_url=fake.endpoint, region_name=REGION,
        aws_access_key_id=KEY_ID, aws_secret_access_key=secret, aws_session_token=TOKEN,
        config=Config(retries={"total_max_attempts": 1}),
    )  # fmt: skip


def invoked(arn: str, event: Any = None, **more: Any) -> Invoked:
    values: dict[str, Any] = {
        "tenant": TENANT, "arn": arn, "event": event, "context": {}, "request_id": "call-1",
        "role": ROLE, "seconds_max": 10,
    }  # fmt: skip
    return Invoked(**{**values, **more})
