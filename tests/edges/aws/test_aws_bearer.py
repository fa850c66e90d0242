"""A bearer token in place of a signature, where a resource's own authorizer says so."""

import base64
from typing import Any

import pytest
from aws_edge_driver import (
    INVOKE,
    INVOKE_PATH,
    TENANT,
    ask,
    invoke_output,
    make_edge,
    scope_of,
    signed_scope,
)
from bearer_doubles import OneGoodToken

from freehold.edges.aws.bearer import bearer_token
from freehold.kernel.errors import Unauthorized
from freehold.kernel.request import Request
from freehold.kernel.session import SESSION_STATE, DoorwaySession

SESSION = DoorwaySession(
    tenant=TENANT,
    runtime_id="other-abcdefghij",
    runtime_arn="arn:aws:bedrock-agentcore:us-east-1:123456789012:runtime/other-abcdefghij",
    endpoint="DEFAULT",
    session_id="s" * 33,
    sandbox_id="sandbox",
)


async def who(request: Request, params: dict[str, Any]) -> Any:
    return invoke_output(f"{request.caller.kind} {request.caller.principal}".encode())


def request_with(*headers: tuple[bytes, bytes], query: bytes = b"") -> dict[str, Any]:
    return scope_of("POST", INVOKE_PATH.encode(), query, [(b"host", b"edge.test"), *headers])


def bearer(token: bytes) -> tuple[bytes, bytes]:
    return b"authorization", b"Bearer " + token


def from_inside(scope: dict[str, Any]) -> dict[str, Any]:
    return {**scope, "state": {SESSION_STATE: SESSION}}


@pytest.fixture
def tokens() -> OneGoodToken:
    return OneGoodToken()


@pytest.fixture
def edge(tokens: OneGoodToken, tmp_path: Any) -> Any:
    return make_edge({INVOKE: who}, tmp_path, bearer=tokens)


async def test_a_good_token_is_its_user(edge: Any, tokens: OneGoodToken) -> None:
    answer = await ask(edge, request_with(bearer(b"good"), query=b"qualifier=prod"))
    assert (answer.status, answer.body) == (200, b"oauth_user issuer|someone")
    assert [(t.operation, t.qualifier) for t in tokens.asked] == [(INVOKE, "prod")]
    assert tokens.asked[0].resource.endswith("runtime/demo-abcdefghij")


@pytest.mark.parametrize("sent", [[bearer(b"bad")], [bearer(b"")], [bearer(b"a b")], []])
async def test_any_other_is_told_where_to_get_one(edge: Any, sent: list[Any]) -> None:
    answer = await ask(edge, request_with(*sent))
    assert (answer.status, answer.code) == (401, "UnauthorizedException")
    assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_the_challenge_leads_to_the_resources_metadata(edge: Any) -> None:
    refused = await ask(edge, request_with(bearer(b"bad")))
    url = refused.headers["www-authenticate"].split('resource_metadata="')[1].rstrip('"')
    path = url.removeprefix("http://edge.test")
    for each in (path, "/.well-known/oauth-protected-resource" + INVOKE_PATH):
        scope = scope_of("GET", each.encode(), b"", [(b"host", b"edge.test")])
        answer = await ask(edge, scope)
        assert answer.status == 200
        assert answer.json()["resource"] == f"http://edge.test{INVOKE_PATH}"


async def test_a_signature_does_not_open_what_demands_a_token(edge: Any) -> None:
    answer = await ask(edge, signed_scope("POST", INVOKE_PATH))
    assert (answer.status, answer.code) == (403, "AccessDeniedException")
    assert "method mismatch" in answer.json()["message"]
    inside = await ask(edge, from_inside(request_with()))
    assert inside.status == 403


async def test_where_no_token_is_demanded_a_signature_is(tmp_path: Any) -> None:
    edge = make_edge({INVOKE: who}, tmp_path, bearer=OneGoodToken(demanded=False))
    assert (await ask(edge, signed_scope("POST", INVOKE_PATH))).status == 200
    assert (await ask(edge, request_with())).code == "MissingAuthenticationTokenException"
    metadata = INVOKE_PATH + "/.well-known/oauth-protected-resource"
    scope = scope_of("GET", metadata.encode(), b"", [(b"host", b"edge.test")])
    assert (await ask(edge, scope)).status == 404


async def test_an_agent_that_was_handed_a_token_calls_as_its_user(edge: Any) -> None:
    answer = await ask(edge, from_inside(request_with(bearer(b"good"))))
    assert answer.body == b"oauth_user issuer|someone"
    refused = await ask(edge, from_inside(request_with(bearer(b"bad"))))
    assert refused.status == 401


async def test_inside_a_token_for_nothing_of_ours_is_not_looked_at(tmp_path: Any) -> None:
    edge = make_edge({INVOKE: who}, tmp_path, bearer=OneGoodToken(demanded=False))
    answer = await ask(edge, from_inside(request_with(bearer(b"for-somebody-else"))))
    assert answer.body.startswith(b"session ")


async def test_a_token_opens_no_operation_that_takes_signatures(edge: Any) -> None:
    scope = scope_of("POST", b"/runtimes/", b"", [(b"host", b"edge.test"), bearer(b"good")])
    assert (await ask(edge, scope)).status == 403


def test_browsers_send_it_as_a_subprotocol() -> None:
    encoded = base64.urlsafe_b64encode(b"good.token").decode().rstrip("=")
    offered = f"base64UrlBearerAuthorization.{encoded}, base64UrlBearerAuthorization"
    assert bearer_token({"sec-websocket-protocol": offered}) == "good.token"
    assert bearer_token({"sec-websocket-protocol": "chat"}) is None
    with pytest.raises(Unauthorized):
        bearer_token({"sec-websocket-protocol": "base64UrlBearerAuthorization.%%%"})


def test_what_signs_is_no_token() -> None:
    assert bearer_token({"authorization": "AWS4-HMAC-SHA256 Credential=x"}) is None
