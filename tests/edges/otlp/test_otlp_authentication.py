"""Who may send telemetry, and what is told to who may not."""

import base64
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from otlp_ground import PROTOBUF, TENANT, OtlpGround, a_request, a_span, basic

from edge_ground import REGION
from freehold.kernel import clock
from freehold.ports.authorizer import AccessKey

BODY = a_request(a_span()).SerializeToString()


@pytest.mark.parametrize("service", ["xray", "logs", "monitoring", "bedrock-agentcore", "freehold"])
async def test_a_signature_for_any_service_that_exporters_sign_for(
    tmp_path: Path, service: str
) -> None:
    async with OtlpGround(tmp_path).served() as ground:
        answer = await _signed(ground, ground.key(), service)
        assert answer == 200
        assert [span.tenant for span in ground.spans.spans] == [TENANT]


async def test_a_signature_that_is_not_right_lets_nobody_in(tmp_path: Path) -> None:
    async with OtlpGround(tmp_path).served() as ground:
        assert await _signed(ground, ground.key(), "s3") == 403
        wrong = AccessKey(id=ground.key().id, tenant=TENANT, secret="another")
        assert await _signed(ground, wrong, "xray") == 403
        assert await _signed(ground, ground.key(), "xray", sent=BODY + b"\x0a\x00") == 403
        assert ground.spans.rows == []
        refused = ground.audited.events
        assert [event.outcome for event in refused] == ["denied"] * 3


@pytest.mark.parametrize(
    "shown",
    [
        "",
        "Basic ",
        "Basic %%%",
        "Basic " + base64.b64encode(b"without a colon").decode(),
        "Basic " + base64.b64encode(b":").decode(),
        "Basic " + base64.b64encode("FHIA123456789012AAAA:\xff".encode("latin-1")).decode(),
        "Bearer eyJhbGciOiJIUzI1NiJ9.e30.x",
        "Bearer FHIA123456789012AAAA:wrong",
        "Bearer FHIA000000000000AAAA:secret-of-123456789012",
    ],
)
async def test_without_a_good_key_there_is_a_challenge(tmp_path: Path, shown: str) -> None:
    async with OtlpGround(tmp_path).served() as ground:
        ground.key()
        answer = await ground.send(BODY, authorization=shown)
        assert answer.status == 401
        assert answer.headers["www-authenticate"].startswith("Basic ")
        assert answer.body[:3] == b"\x08\x10\x12"
        assert b"secret-of" not in answer.body
        assert ground.spans.rows == []


async def test_a_key_is_taken_as_a_bearer_token_too(tmp_path: Path) -> None:
    async with OtlpGround(tmp_path).served() as ground:
        key = ground.key()
        answer = await ground.send(BODY, authorization=f"Bearer {key.id}:{key.secret}")
        assert answer.status == 200


async def test_a_secret_in_the_clear_is_refused_from_another_machine(tmp_path: Path) -> None:
    async with OtlpGround(tmp_path, client=("192.0.2.7", 40000)).served() as ground:
        answer = await ground.send(BODY)
        assert answer.status == 403
        assert b"https" in answer.body
        assert await _signed(ground, ground.key(), "xray") == 200, "a signature shows no secret"


async def test_a_temporary_key_comes_with_its_token_and_in_time(tmp_path: Path) -> None:
    async with OtlpGround(tmp_path).served() as ground:
        sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"  # of "test"
        soon = clock.now() + timedelta(minutes=5)
        key = msgspec.structs.replace(
            ground.key(), user="anna", token_sha256=sha256, expires_at=soon
        )
        ground.keys.by_id[key.id] = key

        async def sent(**more: str) -> int:
            headers = {**PROTOBUF, **more}
            answer = await ground.send(BODY, headers=headers, authorization=basic(key))
            return answer.status

        assert await sent(**{"x-amz-security-token": "test"}) == 200
        assert await sent(**{"x-amz-security-token": "other"}) == 403
        assert await sent() == 403
        late = msgspec.structs.replace(key, expires_at=clock.now() - timedelta(seconds=1))
        ground.keys.by_id[key.id] = late
        assert await sent(**{"x-amz-security-token": "test"}) == 403


async def test_who_may_not_write_is_refused_and_the_refusal_is_audited(tmp_path: Path) -> None:
    async with OtlpGround(tmp_path).served() as ground:
        ground.authorizing.denied.add(TENANT)
        answer = await ground.send(BODY)
        assert (answer.status, answer.body[:3]) == (403, b"\x08\x07\x12")
        [line] = ground.audited.of(TENANT, "freehold:ExportTelemetry")
        assert line["outcome"] == "denied"
        assert ground.spans.rows == []


async def _signed(ground: OtlpGround, key: AccessKey, service: str, *, sent: bytes = BODY) -> int:
    request = AWSRequest("POST", f"{ground.endpoint}/v1/traces", data=BODY, headers=PROTOBUF)
    SigV4Auth(Credentials(key.id, key.secret), service, REGION).add_auth(request)
    headers = dict(request.headers.items())
    async with ground.http.post(request.url, data=sent, headers=headers) as answer:
        return answer.status
