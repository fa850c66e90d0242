"""Models through a gateway: the makers' own clients, routed by the model, on to the next target."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import httpx
import openai
import pytest
from aiohttp import web
from passage_ground import SECRET, Ground, provider, target, upstream

from freehold.services.gateway.inference import connectors
from freehold.testing.scripted_model import ScriptedModel

KEY = {"credentialProviderType": "API_KEY"}
CHAT = "/v1/chat/completions"


@pytest.fixture
async def model() -> AsyncIterator[ScriptedModel]:
    async with ScriptedModel() as model:
        yield model


@pytest.fixture
async def chat(ground: Ground) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{ground.url}/inference/v1", api_key="user-ann", max_retries=0, timeout=20
    ) as client:
        yield client


@pytest.fixture
async def claude(ground: Ground) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(
        base_url=f"{ground.url}/inference", auth_token="user-ann", max_retries=0, timeout=20
    ) as client:
        yield client


def said(text: str = "Hello") -> Any:
    return [{"role": "user", "content": text}]


async def asked(
    client: httpx.AsyncClient, model: str = "m", headers: dict[str, str] | None = None, **more: Any
) -> httpx.Response:
    body = {"model": model, "messages": said(), **more}
    return await client.post(f"/inference{CHAT}", json=body, headers=headers)


def answering(status: int = 200, text: str = "fine", seen: list[Any] | None = None) -> Any:
    async def answer(request: web.Request) -> web.StreamResponse:
        document = await request.json()
        if seen is not None:
            seen.append(document)
        usage = {"prompt_tokens": 60, "completion_tokens": 40}
        return web.json_response({"text": text, "usage": usage}, status=status)

    return answer


async def slow(request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(30)
    raise AssertionError


async def test_openais_client_speaks_through_it(
    ground: Ground, chat: openai.AsyncOpenAI, model: ScriptedModel
) -> None:
    ground.has(provider("llm", model.base_url, "gpt-*", credential=KEY))
    whole = await chat.chat.completions.create(model="gpt-5", messages=said())
    stream = await chat.chat.completions.create(model="gpt-5", messages=said(), stream=True)
    pieces = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
    responded = await chat.responses.create(model="llm/gpt-5", input="Hello")

    assert "You said: Hello" in str(whole.choices[0].message.content)
    assert "You said: Hello" in "".join(pieces)
    assert "You said: Hello" in responded.output_text
    assert len(model.requests) == 3
    for request in model.requests:
        assert request.headers["authorization"] == SECRET
        assert request.document["model"] == "gpt-5"
    line = ground.audit.last()
    assert (line.detail["target"], line.detail["model"]) == ("llm", "gpt-5")
    assert int(line.detail["tokens"]) > 0


async def test_anthropics_client_speaks_through_it(
    ground: Ground, claude: anthropic.AsyncAnthropic, model: ScriptedModel
) -> None:
    ground.has(provider("claude", model.base_url, "claude-*", credential=KEY))
    whole = await claude.messages.create(model="claude-x", max_tokens=50, messages=said())
    async with claude.messages.stream(
        model="claude/claude-x", max_tokens=50, messages=said()
    ) as stream:
        text = "".join([piece async for piece in stream.text_stream])

    assert "You said: Hello" in whole.content[0].text  # type: ignore[union-attr]
    assert "You said: Hello" in text
    assert model.requests[0].headers["anthropic-version"]
    assert "user-ann" not in json.dumps([request.headers for request in model.requests])


async def test_errors_are_the_clients_own_kind(
    ground: Ground, chat: openai.AsyncOpenAI, claude: anthropic.AsyncAnthropic
) -> None:
    ground.has(provider("llm", "http://127.0.0.1:1", "gpt-5"))
    with pytest.raises(openai.NotFoundError, match="llm/gpt-5"):
        await chat.chat.completions.create(model="other", messages=said())
    with pytest.raises(openai.APIStatusError, match="could not be connected") as refused:
        await chat.chat.completions.create(model="gpt-5", messages=said())
    assert refused.value.status_code == 502
    with pytest.raises(anthropic.NotFoundError):
        await claude.messages.create(model="other", max_tokens=5, messages=said())


async def test_models_of_all_targets_are_listed_and_a_silent_one_is_named(
    ground: Ground, chat: openai.AsyncOpenAI, claude: anthropic.AsyncAnthropic, model: ScriptedModel
) -> None:
    ground.has(
        provider("one", "http://127.0.0.1:1", "a", "both", paths=(CHAT,)),
        provider("two", "http://127.0.0.1:1", "b", "both", paths=(CHAT,)),
        provider("asks", model.base_url),
        provider("gone", "http://127.0.0.1:1", "g-*"),
    )
    listed = [each.id async for each in chat.models.list()]
    named = [each.id async for each in claude.models.list()]
    raw = await chat.models.with_raw_response.list()
    one = await chat.models.retrieve("b")

    assert listed == ["a", "one/both", "b", "two/both", "freehold-scripted"]
    assert named == listed
    assert json.loads(raw.content)["unavailable_targets"] == ["gone"]
    assert one.owned_by == "two"


async def test_a_model_goes_to_whoever_has_it(ground: Ground, client: httpx.AsyncClient) -> None:
    async with upstream(answering(text="A")) as a, upstream(answering(text="B")) as b:
        mapping = {"providerPrefix": {"strip": True, "separator": "."}}
        seen: list[Any] = []
        async with upstream(answering(text="C", seen=seen)) as c:
            ground.has(
                provider("a", a, "m1", "shared", paths=(CHAT,)),
                provider("b", b, "m2-*", "shared", paths=(CHAT,)),
                provider("c", c, "vendor.big-*", paths=(CHAT,), mapping=mapping),
            )
            routed = {
                model: (await asked(client, model)).json()["text"]
                for model in ("m1", "m2-x", "b/shared", "a/shared", "big-1", "vendor.big-2")
            }
            turns = {(await asked(client, "shared")).json()["text"] for _ in range(4)}
            nobody = await asked(client, "a/m2-x")
            no_path = await client.post("/inference/v1/embeddings", json={"model": "m1"})
    assert routed == {
        "m1": "A", "m2-x": "B", "b/shared": "B", "a/shared": "A", "big-1": "C", "vendor.big-2": "C",
    }  # fmt: skip
    assert [each["model"] for each in seen] == ["vendor.big-1", "vendor.big-2"]
    assert turns == {"A", "B"}
    assert nobody.status_code == 404
    assert no_path.status_code == 404


async def test_paths_are_the_providers_and_a_member_said_twice_is_said_once(
    ground: Ground, client: httpx.AsyncClient
) -> None:
    bodies: list[tuple[str, bytes]] = []

    async def keep(request: web.Request) -> web.StreamResponse:
        bodies.append((request.raw_path, await request.read()))
        return web.json_response({})

    operations = [{"path": CHAT, "providerPath": "/openai/chat", "models": [{"model": "m"}]}]
    async with upstream(keep) as url:
        ground.has(target("p", "inference.provider", {"endpoint": url, "operations": operations}))
        raw = b'{"model":"dear","messages":[],"model":"m","temperature":0.10}'
        await client.post(f"/inference{CHAT}?beta=true&x=1", content=raw)
        bad = await client.post(f"/inference{CHAT}", content=b"[1]")
    ((path, body),) = bodies
    assert path == "/openai/chat?beta=true"
    assert body.count(b'"model"') == 1
    assert b'"temperature":0.10' in body
    assert json.loads(body)["model"] == "m"
    assert bad.status_code == 400


async def test_connectors_know_where_their_key_goes(
    ground: Ground, claude: anthropic.AsyncAnthropic, model: ScriptedModel
) -> None:
    known = connectors("us-east-1")
    local = {
        name: type(each)(
            endpoint=model.base_url,
            **{
                field: getattr(each, field)
                for field in ("operations", "separator", "preferred", "headers", "credential")
            },
        )
        for name, each in known.items()
    }
    ground.has(
        target(
            "ant", "inference.connector", {"source": {"connectorId": "anthropic"}}, credential=KEY
        ),
        connectors=local,
    )
    await claude.messages.create(model="claude-x", max_tokens=5, messages=said())
    (request,) = model.requests
    assert request.headers["x-api-key"] == SECRET
    assert "authorization" not in request.headers
    assert known["bedrock-mantle"].endpoint == "https://bedrock-mantle.us-east-1.api.aws"


def falling_back(*others: dict[str, Any], **fallback: Any) -> dict[str, Any]:
    first = {"targetName": "first", "fallback": {"targetFallback": list(others), **fallback}}
    return {"priority": 1, "actions": [{"routeToTarget": {"staticRoute": first}}]}


@pytest.mark.parametrize(
    ("first", "how"),
    [
        (answering(503), {}),
        (answering(429), {"triggerOn": {"statusCodes": ["429"]}}),
        (slow, {"firstByteTimeoutMilliseconds": 100}),
        (None, {}),
    ],
    ids=["status", "named status", "late first byte", "connection"],
)
async def test_the_next_target_takes_over_before_the_first_byte(
    ground: Ground, client: httpx.AsyncClient, first: Any, how: dict[str, Any]
) -> None:
    seen: list[Any] = []
    async with upstream(first or slow) as url, upstream(answering(200, "second", seen)) as second:
        ground.has(
            provider("first", url if first else "http://127.0.0.1:1", "m", paths=(CHAT,)),
            provider("second", second, "m", "n", paths=(CHAT,)),
            rule=falling_back({"targetName": "second", "model": "n"}, **how),
        )
        answer = await asked(client)
    assert answer.json()["text"] == "second"
    assert seen[0]["model"] == "n"
    line = ground.audit.last()
    assert line.detail["target"] == "second"
    assert line.detail["tried"].startswith("first ")
    assert line.detail["route"] == "rule1"


async def test_what_does_not_trigger_and_the_last_answer_come_back_as_they_are(
    ground: Ground, client: httpx.AsyncClient
) -> None:
    async with upstream(answering(400, "bad")) as bad, upstream(answering(503, "down")) as down:
        ground.has(
            provider("first", bad, "m"),
            provider("second", down, "m"),
            rule=falling_back({"targetName": "second"}),
        )
        not_a_trigger = await asked(client)
        ground.has(
            provider("first", down, "m"),
            provider("second", down, "m"),
            rule=falling_back({"targetName": "second"}),
        )
        all_down = await asked(client)
    assert (not_a_trigger.status_code, not_a_trigger.json()["text"]) == (400, "bad")
    assert (all_down.status_code, all_down.json()["text"]) == (503, "down")


async def test_a_slow_end_is_not_a_slow_beginning(
    ground: Ground, client: httpx.AsyncClient
) -> None:
    """Once a byte is on its way, nothing falls back."""

    async def trickle(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        answer.content_type = "text/event-stream"
        await answer.prepare(request)
        await answer.write(b"data: one\n\n")
        await asyncio.sleep(0.6)
        await answer.write(b"data: two\n\n")
        return answer

    async with upstream(trickle) as url, upstream(answering(200, "second")) as second:
        ground.has(
            provider("first", url, "m"),
            provider("second", second, "m"),
            rule=falling_back({"targetName": "second"}, firstByteTimeoutMilliseconds=400),
        )
        answer = await asked(client, stream=True)
    assert answer.text == "data: one\n\ndata: two\n\n"


async def test_a_target_that_keeps_failing_is_passed_over_until_it_recovers(
    ground: Ground, client: httpx.AsyncClient
) -> None:
    seen: list[Any] = []
    status = 500

    async def moody(request: web.Request) -> web.StreamResponse:
        return await answering(status, "first", seen)(request)  # type: ignore[no-any-return]

    async with upstream(moody) as first, upstream(answering(200, "second")) as second:
        ground.has(
            provider("first", first, "m", breaker_seconds=30.0),
            provider("second", second, "m"),
            rule=falling_back({"targetName": "second"}),
        )
        for _ in range(6):
            assert (await asked(client)).json()["text"] == "second"
        assert len(seen) == 3
        assert ground.audit.last().detail["tried"] == "first is open"
        ground.now, status = 31.0, 200
        assert (await asked(client)).json()["text"] == "first"


async def test_a_rule_splits_by_weight_and_a_session_stays_where_it_is(
    ground: Ground, client: httpx.AsyncClient
) -> None:
    async with upstream(answering(text="A")) as a, upstream(answering(text="B")) as b:
        split = [
            {"name": "control", "weight": 80, "targetName": "a"},
            {"name": "treatment", "weight": 20, "targetName": "b"},
        ]
        rule = {
            "priority": 1,
            "actions": [{"routeToTarget": {"weightedRoute": {"trafficSplit": split}}}],
        }
        ground.has(provider("a", a, "m"), provider("b", b, "m"), rule=rule)
        by_chance = [(await asked(client)).json()["text"] for _ in range(60)]
        header = "x-amzn-bedrock-agentcore-runtime-session-id"
        stayed = [
            {(await asked(client, headers={header: f"s{n}"})).json()["text"] for _ in range(3)}
            for n in range(20)
        ]
    assert {"A", "B"} == set(by_chance)
    assert by_chance.count("A") > by_chance.count("B")
    assert all(len(each) == 1 for each in stayed)
    assert {"A", "B"} == set().union(*stayed)


def limited(**metrics: Any) -> dict[str, Any]:
    rates = {name: [{"rate": rate, "period": "minute"}] for name, rate in metrics.items()}
    return {
        "dimensionKeys": ["$.context.jwt.sub", "qualifiedModelId"],
        "entries": [{"dimensions": {"$.context.jwt.sub": "*", "qualifiedModelId": "*"}, **rates}],
    }


async def test_a_request_limit_is_a_429_for_who_has_used_it_up_alone(
    ground: Ground, client: httpx.AsyncClient, chat: openai.AsyncOpenAI
) -> None:
    async with upstream(answering()) as url:
        ground.has(provider("llm", url, "m", "n"), limit=limited(requests=3))
        statuses = [(await asked(client)).status_code for _ in range(5)]
        refused = await asked(client)
        other_model = await asked(client, "n")
        other_user = await asked(client, headers={"authorization": "Bearer user-bob"})
        with pytest.raises(openai.RateLimitError, match="3 calls in 60 seconds"):
            await chat.chat.completions.create(model="m", messages=said())
    assert statuses == [200] * 3 + [429] * 2
    assert 1 <= int(refused.headers["retry-after"]) <= 61
    assert (other_model.status_code, other_user.status_code) == (200, 200)


@pytest.mark.parametrize("streamed", [False, True])
async def test_tokens_of_answers_are_counted_against_their_limit(
    ground: Ground, client: httpx.AsyncClient, model: ScriptedModel, streamed: bool
) -> None:
    ground.has(provider("llm", model.base_url, "m"), limit=limited(tokens=30))
    first = await asked(client, stream=streamed)
    tokens = int(ground.audit.last().detail["tokens"])
    statuses = [(await asked(client, stream=streamed)).status_code for _ in range(8)]

    assert first.status_code == 200
    passed = 1 + statuses.count(200)
    assert statuses == sorted(statuses)
    assert (passed - 1) * tokens < 30 <= passed * tokens
    if streamed:
        assert model.requests[0].document["stream_options"] == {"include_usage": True}
        assert '"choices":[]' not in first.text.replace(" ", ""), "nobody asked for that event"
        assert first.text.endswith("data: [DONE]\n\n")


async def test_connections_are_limited_and_given_back(
    ground: Ground, client: httpx.AsyncClient
) -> None:
    go_on = asyncio.Event()
    inside = asyncio.Semaphore(0)

    async def wait(request: web.Request) -> web.StreamResponse:
        inside.release()
        await go_on.wait()
        return web.json_response({})

    async with upstream(wait) as url, asyncio.timeout(20):
        ground.has(provider("llm", url, "m"), limit=limited(connections=2))
        under_way = [asyncio.create_task(asked(client)) for _ in range(2)]
        await inside.acquire()
        await inside.acquire()
        third = await asked(client)
        go_on.set()
        done = await asyncio.gather(*under_way)
        while (await asked(client)).status_code != 200:
            await asyncio.sleep(0.01)
    assert third.status_code == 429
    assert "2 calls at once" in third.json()["message"]
    assert [each.status_code for each in done] == [200, 200]
