"""What botocore signs, we accept; what differs from it in any part, we refuse."""

import random
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from aws_edge_driver import (
    CREDENTIALS,
    KEY,
    REGION,
    TENANT,
    Keys,
    signed_scope,
    wire_scope,
)
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from signed_requests import BODY, PATH, S3_RULES, SERVICE, check, presigned_scope

from freehold.edges import sigv4
from freehold.edges.sigv4 import SignatureRefused
from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.errors import AccessDenied


async def test_a_signed_request_names_its_caller() -> None:
    scope = signed_scope("POST", PATH, BODY, {"X-Amz-Target": "x", "Content-Type": "text/plain"})
    assert await check(scope) == Caller(
        tenant=TENANT,
        principal=f"arn:aws:iam::{TENANT}:access-key/{KEY.id}",
        kind=CallerKind.ACCESS_KEY,
        access_key_id=KEY.id,
    )


async def test_a_presigned_request_names_its_caller() -> None:
    caller = await check(presigned_scope(), b"")
    assert caller.tenant == TENANT


async def test_the_canonical_request_agrees_with_botocore_on_a_thousand_random_ones() -> None:
    choose = random.Random(20260822)
    characters = "abcXYZ019-._~ /+%&=?#:;,@!$*'()[]{}|\\\"<>^`éß漢😀\t"

    def text(low: int = 1, high: int = 20) -> str:
        return "".join(choose.choices(characters, k=choose.randint(low, high)))

    for _ in range(1000):
        segments = [quote(text(), safe="") for _ in range(choose.randint(0, 4))]
        segments = [part for part in segments if part not in {".", ".."}]
        path = "/" + "/".join(segments) + choose.choice(["", "/"] if segments else [""])
        query = "&".join(
            f"{quote(text(), safe='')}={quote(text(0), safe='-_.~')}"
            for _ in range(choose.randint(0, 4))
        )
        latin = [text().encode("latin-1", "ignore").decode("latin-1") for _ in range(3)]
        headers = {
            f"X-Amz-Meta-{n}": value.replace("\t", "  ").strip()
            for n, value in enumerate(latin[: choose.randint(0, 3)])
        }
        body = choose.randbytes(choose.randint(0, 50))
        url = f"{path}?{query}" if query else path
        method = choose.choice(["GET", "POST", "PUT", "DELETE", "PATCH"])
        if choose.random() < 0.3:
            body = b""  # botocore would move one into the query
            request = AWSRequest(method=method, url=f"http://edge.test{url}")
            SigV4QueryAuth(CREDENTIALS, SERVICE, REGION, expires=60).add_auth(request)
            scope = wire_scope(request)
        else:
            scope = signed_scope(method, url, body, headers)
        assert (await check(scope, body)).tenant == TENANT


async def test_s3_paths_are_encoded_once_and_may_hold_anything() -> None:
    for path in ("/_s3/b/a%20b//c/../d%2Fe%C3%A9?list-type=2&prefix=a%2Fb", "/_s3/b?acl", "/"):
        request = AWSRequest(method="PUT", url=f"http://edge.test{path}", data=BODY)
        S3SigV4Auth(CREDENTIALS, "s3", REGION).add_auth(request)
        assert (await check(wire_scope(request), rules=S3_RULES)).tenant == TENANT
        scope = presigned_scope(path, signer=S3SigV4QueryAuth)
        assert (await check(scope, b"any body", rules=S3_RULES)).tenant == TENANT


async def test_an_undigested_payload_is_accepted_only_where_the_edge_says_so() -> None:
    for literal in ("UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"):
        scope = signed_scope(
            "PUT", "/_s3/b/k", b"x", {"X-Amz-Content-SHA256": literal}, service="s3"
        )
        # botocore's plain signer encodes the path again, so this one needs nothing encoded
        assert (await check(scope, b"y", rules=S3_RULES)).tenant == TENANT
        scope = signed_scope("POST", PATH, BODY, {"X-Amz-Content-SHA256": literal})
        with pytest.raises(SignatureRefused):
            await check(scope)


async def test_a_declared_hash_is_compared_with_the_body() -> None:
    declared = sigv4.hashlib.sha256(BODY).hexdigest()
    scope = signed_scope("POST", PATH, BODY, {"X-Amz-Content-SHA256": declared})
    assert (await check(scope)).tenant == TENANT
    with pytest.raises(sigv4.PayloadMismatch):
        await check(scope, BODY + b" ")


async def test_an_unknown_key_and_a_wrong_secret_are_refused_alike() -> None:
    unknown = signed_scope("POST", PATH, BODY, credentials=Credentials("FHIANOBODY", KEY.secret))
    wrong = signed_scope("POST", PATH, BODY, credentials=Credentials(KEY.id, "wrong"))
    refusals = []
    for scope in (unknown, wrong):
        with pytest.raises(AccessDenied) as refused:
            await check(scope)
        refusals.append((type(refused.value), refused.value.code, refused.value.message))
    assert refusals[0] == refusals[1]
    assert refused.value.status == 403


async def test_a_key_that_is_gone_is_refused() -> None:
    scope = signed_scope("POST", PATH, BODY)
    await check(scope)
    with pytest.raises(sigv4.SignatureMismatch):
        await check(scope, keys=Keys())


async def test_the_secret_is_in_no_refusal() -> None:
    scope = signed_scope("POST", PATH, BODY)
    with pytest.raises(AccessDenied) as refused:
        await check(scope, b"other")
    assert KEY.secret not in repr(refused.value) + refused.value.message


@pytest.mark.parametrize("shift", [-3600, -305, 305, 86400])
async def test_a_clock_too_far_off_is_refused(shift: int) -> None:
    scope = signed_scope("POST", PATH, BODY)
    with pytest.raises(sigv4.SignatureOutOfTime):
        await check(scope, now=datetime.now(UTC) + timedelta(seconds=shift))


@pytest.mark.parametrize("shift", [-290, 290])
async def test_a_clock_a_little_off_is_accepted(shift: int) -> None:
    scope = signed_scope("POST", PATH, BODY)
    await check(scope, now=datetime.now(UTC) + timedelta(seconds=shift))


async def test_a_presigned_request_lives_as_long_as_it_says() -> None:
    scope = presigned_scope(expires=60)
    await check(scope, b"", now=datetime.now(UTC) + timedelta(seconds=50))
    for shift in (65, -305):
        with pytest.raises(sigv4.SignatureOutOfTime):
            await check(scope, b"", now=datetime.now(UTC) + timedelta(seconds=shift))


@pytest.mark.parametrize("expires", [-1, 0, 3601, 604800, 99999999])
async def test_a_presigned_request_for_too_long_is_refused(expires: int) -> None:
    with pytest.raises(sigv4.SignatureOutOfTime):
        await check(presigned_scope(expires=expires), b"")


def test_the_claimed_service_is_read_from_header_and_query() -> None:
    assert sigv4.claimed_service(signed_scope("GET", "/x")) == SERVICE
    assert sigv4.claimed_service(signed_scope("GET", "/x", service="agent-registry")) == (
        "agent-registry"
    )
    assert sigv4.claimed_service(presigned_scope()) == SERVICE
    bare = {"headers": [], "query_string": b"a=b"}
    assert sigv4.claimed_service(bare) is None
