"""The platform's keys are in no answer, no error, no record and no log."""

import asyncio
import logging
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from served_doorway import Doorway, open_doorway, upstream

from freehold.edges.doorway import DoorwayLimits, session_environment
from freehold.ports.models import ModelKind, ModelProvider

CANARY = "canary-7f3b5c-do-not-print"
CALLS = (
    ("openai", "/model/openai/v1/chat/completions"),
    ("anthropic", "/model/anthropic/v1/messages"),
    ("bedrock", "/model/bedrock/model/m/converse"),
    ("gemini", "/model/gemini/v1beta/models/m:generateContent"),
    ("mistral", "/model/mistral/v1/chat/completions"),
)


def providers(base_url: str, *, bearer: bool = False) -> dict[str, ModelProvider]:
    """A canary in every place that may hold a secret."""
    keys = None if bearer else ("AKIAPLATFORM", CANARY, f"token-{CANARY}")
    return {
        kind.value: ModelProvider(
            kind=kind,
            base_url=base_url,
            api_key=CANARY if kind is not ModelKind.BEDROCK or bearer else "",
            aws_keys=keys if kind is ModelKind.BEDROCK else None,
            region="us-east-1",
        )
        for kind in ModelKind
    }


async def heard(door: Doorway, path: str) -> str:
    """Everything that comes back for one call, headers and broken bodies too."""
    async with door.http.post(door.url + path, json={"model": "m"}) as answer:
        said = f"{answer.status} {answer.headers} "
        try:
            async for chunk in answer.content.iter_any():
                said += chunk.decode("latin-1")
        except aiohttp.ClientPayloadError as broken:
            said += str(broken)
    return said


async def repeats_the_request(request: web.Request) -> web.StreamResponse:
    headers = {
        name: value.encode("ascii", "ignore").decode() for name, value in request.headers.items()
    }
    return web.json_response({"headers": headers, "url": str(request.url)})


async def refuses_the_key(request: web.Request) -> web.StreamResponse:
    masked = f"Incorrect API key provided: {CANARY[:9]}***. {CANARY}"
    return web.json_response({"error": {"message": masked}}, status=401)


async def says_what_is_wrong_with_the_key(request: web.Request) -> web.StreamResponse:
    details = [{"reason": "API_KEY_INVALID", "metadata": {"key": CANARY}}]
    return web.json_response({"error": {"code": 400, "details": details}}, status=400)


async def repeats_it_in_a_header(request: web.Request) -> web.StreamResponse:
    return web.json_response({}, headers={"x-request-id": f"token-{CANARY}"})


async def fails(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.close()
    return web.Response()


async def is_silent(request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(30)
    return web.Response()


@pytest.mark.parametrize(
    "handle",
    [
        repeats_the_request,
        refuses_the_key,
        says_what_is_wrong_with_the_key,
        repeats_it_in_a_header,
        fails,
        is_silent,
    ],
)
@pytest.mark.parametrize("bearer", [False, True])
async def test_no_key_comes_back_whatever_the_provider_does(
    handle: Any, bearer: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("asyncio").setLevel(logging.INFO)
    limits = DoorwayLimits(idle_seconds_max=0.1)
    async with (
        upstream(handle) as base_url,
        open_doorway(providers(base_url, bearer=bearer), limits=limits) as door,
    ):
        said = [await heard(door, path) for _, path in CALLS]
        calls = await door.calls()

    # A signature is not a secret, and the AWS secret key never left: the token did.
    assert len(calls) == len(CALLS)
    told = [(call.name, call.message, call.attributes) for call in calls]
    for text in (*said, repr(told), caplog.text):
        assert CANARY not in text


async def test_a_key_that_comes_in_halves_does_not_come_whole() -> None:
    first_half_is_there = asyncio.Event()

    async def repeats_it_in_halves(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(CANARY[:13].encode())
        await first_half_is_there.wait()
        await response.write(CANARY[13:].encode())
        await response.write_eof()
        return response

    async with (
        asyncio.timeout(10),
        upstream(repeats_it_in_halves) as base_url,
        open_doorway(providers(base_url)) as door,
    ):
        answer = await door.http.post(door.url + CALLS[0][1], json={"model": "m"})
        assert await answer.content.readany() == CANARY[:13].encode()
        first_half_is_there.set()
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.content.read()


async def test_a_key_that_the_provider_refuses_is_the_operators_matter(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def handle(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/converse"):
            headers = {"x-amzn-errortype": "ExpiredTokenException:http://x/"}
            return web.json_response({"message": "expired"}, status=403, headers=headers)
        return await refuses_the_key(request)

    async with upstream(handle) as base_url, open_doorway(providers(base_url)) as door:
        said = [await heard(door, path) for _, path in CALLS]

    assert [text[:3] for text in said] == ["503", "503", "424", "400", "503"]
    assert all("operator must check" in text for text in said)
    assert CANARY[:9] not in "".join(said)
    assert caplog.text.count("refuses the platform's key") == len(CALLS)


async def test_a_password_in_a_base_url_is_refused_without_repeating_it() -> None:
    with pytest.raises(ValueError, match="no user name or password") as refused:
        providers(f"https://user:{CANARY}@models.example/v1")
    assert CANARY not in str(refused.value)


async def test_a_provider_shows_no_secret_of_its_own_and_a_session_gets_none() -> None:
    made = providers("http://127.0.0.1:9", bearer=True) | {
        "other": providers("http://x")["bedrock"]
    }
    assert CANARY not in repr(made)
    assert CANARY not in str(list(made.values()))
    assert CANARY not in str(session_environment(7400, region="us-east-1", providers=made))
