"""Model calls of a fork are answered from the record, or go upstream with the change."""

import asyncio
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from aiohttp import web
from provider_clients import CLIENTS, SCRIPT, run_client
from replayed_session import CALLS, FORK_SESSION, SAID, USER, Record, doorway
from served_doorway import SESSION, open_doorway, openai_at, upstream
from signed_upstream import expected_signature, signing_provider

from freehold.edges.doorway import DoorwayLimits, session_environment
from freehold.kernel.tracing import Span
from freehold.ports.replay import FORK_ID, REPLAY, REPLAY_DIFFERS, LiveModel, ModelAnswer
from freehold.testing.scripted_model import MODEL_NAME, Rule, Script, ScriptedModel

CHANGED = "freehold.replay.changed"
CHAT, ASKED = CALLS[0]
REPLY = "It is raining in Oslo."


async def asked_of(door: Any, path: str, asked: Any) -> tuple[int, dict[str, str], bytes]:
    async with door.http.post(f"{door.url}/model/{path}", json=asked) as answer:
        headers = {name.lower(): value for name, value in answer.headers.items()}
        return answer.status, headers, await answer.read()


async def first_run(path: str, asked: Any) -> tuple[dict[str, str], bytes, Span]:
    script = Script(rules=(Rule(reply=REPLY),))
    async with ScriptedModel(script) as model, doorway(model.providers()) as door:
        status, headers, body = await asked_of(door, path, asked)
        assert status == 200
    [call] = await door.calls()
    return headers, body, call


@pytest.mark.parametrize(("path", "asked"), CALLS)
async def test_a_recorded_call_has_the_same_answer_to_the_byte_and_goes_nowhere(
    path: str, asked: dict[str, Any]
) -> None:
    recorded, said, first = await first_run(path, asked)
    replays = Record([first])
    async with doorway({}, replays) as door:  # no provider is configured
        status, headers, body = await asked_of(door, path, asked)
    [call] = await door.calls()
    assert (status, body) == (200, said)
    assert headers["content-type"] == recorded["content-type"]
    assert headers["content-length"] == str(len(said))
    told, was = call.attributes, first.attributes
    assert (told[REPLAY], told[FORK_ID]) == ("recorded", FORK_SESSION.session_id)
    assert REPLAY_DIFFERS not in told
    assert was["gen_ai.usage.output_tokens"] == 5
    assert not [name for name in told if name.startswith("gen_ai.usage")]
    for same in ("gen_ai.request.model", "gen_ai.output.messages", "freehold.streamed",
                 "freehold.exchange.request", "freehold.exchange.response"):  # fmt: skip
        assert told[same] == was[same]
    assert REPLAY not in was


async def test_a_call_that_asks_something_else_says_so() -> None:
    _, said, first = await first_run(CHAT, ASKED)
    async with doorway({}, Record([first])) as door:
        _, _, body = await asked_of(door, CHAT, {**ASKED, "temperature": 1})
    [call] = await door.calls()
    assert body == said
    assert call.attributes[REPLAY_DIFFERS] is True


OTHER = LiveModel(model="vendor.other-2:0", system="be kind", prompt="and Rome?")
PROMPT: Any = [{"role": "user", "content": "and Rome?"}]
BEDROCK: Any = {
    "messages": [{"role": "user", "content": [{"text": "and Rome?"}]}],
    "system": [{"text": "be kind"}],
}
INSTRUCTED: Any = [{"role": "system", "content": "be kind"}, *PROMPT]
GEMINI: Any = {
    "contents": [{"role": "user", "parts": [{"text": "and Rome?"}]}],
    "systemInstruction": {"parts": [{"text": "be kind"}]},
}
LATER: dict[str, tuple[str, dict[str, Any]]] = {
    "openai/v1/chat/completions":
        ("/v1/chat/completions", {"model": OTHER.model, "messages": INSTRUCTED}),
    "openai/v1/responses":
        ("/v1/responses", {"model": OTHER.model, "input": "and Rome?", "instructions": "be kind"}),
    "anthropic/v1/messages": ("/v1/messages", {
        "model": OTHER.model, "max_tokens": 9, "messages": PROMPT, "system": "be kind"}),
    "mistral/v1/chat/completions":
        ("/mistral/v1/chat/completions", {"model": OTHER.model, "messages": INSTRUCTED}),
    "bedrock/model/m/converse": ("/model/vendor.other-2%3A0/converse", BEDROCK),
    "bedrock/model/m/converse-stream": ("/model/vendor.other-2%3A0/converse-stream", BEDROCK),
    "gemini/v1/models/m:generateContent": ("/v1/models/other-2:generateContent", GEMINI),
    "gemini/v1beta/models/m:streamGenerateContent?alt=sse":
        ("/v1beta/models/other-2:streamGenerateContent?alt=sse", GEMINI),
}  # fmt: skip
"""Where the call goes and what it asks then; beside that, whether it is a stream."""


@pytest.mark.parametrize(("path", "asked"), [call for call in CALLS if call[0] in LATER])
async def test_a_live_call_goes_out_with_the_change_and_nothing_else_of_it_is_new(
    path: str, asked: dict[str, Any]
) -> None:
    named = "other-2" if path.startswith("gemini") else OTHER.model
    live = LiveModel(model=named, system=OTHER.system, prompt=OTHER.prompt)
    replays = Record(then=live)
    async with ScriptedModel() as model, doorway(model.providers(), replays) as door:
        status, _, _ = await asked_of(door, path, asked)
        [request] = model.requests
    [call] = await door.calls()
    assert status == 200
    where, what = LATER[path]
    streamed = {name: asked[name] for name in asked if name.startswith("stream")}
    assert (request.path, request.document) == (where, {**what, **streamed})
    told = call.attributes
    assert (told[REPLAY], told[CHANGED], told[FORK_ID]) == ("live", True, FORK_SESSION.session_id)
    assert told["gen_ai.request.model"] == named
    assert told["gen_ai.usage.output_tokens"] > 0
    assert "Rome" in told["freehold.exchange.request"]


async def test_a_live_call_without_a_change_is_the_agents_own() -> None:
    replays = Record(then=LiveModel())
    async with ScriptedModel() as model, doorway(model.providers(), replays) as door:
        await asked_of(door, CHAT, ASKED)
        [request] = model.requests
    [call] = await door.calls()
    assert request.document == ASKED
    assert call.attributes[REPLAY] == "live"
    assert CHANGED not in call.attributes


async def test_bedrock_is_signed_for_what_goes_out() -> None:
    seen: list[tuple[str, Any]] = []

    async def handle(request: web.Request) -> web.Response:
        body = await request.read()
        assert request.headers["authorization"] == expected_signature(request, body)
        assert request.headers["content-length"] == str(len(body))
        seen.append((request.raw_path, await request.json()))
        return web.json_response({})

    large = "x" * (400 << 10)
    asked = {"messages": [{"role": "user", "content": [{"text": large}, {"text": USER}]}]}
    name = "arn:aws:bedrock:us-west-2::inference-profile/us.model:0"
    live = LiveModel(model=name, system="be kind", prompt="and Rome?")
    async with (
        upstream(handle) as base_url,
        doorway({"bedrock": signing_provider(base_url)}, Record(then=live)) as door,
    ):
        status, _, _ = await asked_of(door, "bedrock/model/m/converse", asked)
    assert status == 200
    [(path, document)] = seen
    assert path == f"/model/{quote(name, safe='')}/converse"
    assert document == BEDROCK


@pytest.mark.parametrize("name", ["../files", "a b", "x" * 3000])
async def test_what_is_no_name_of_a_model_goes_nowhere(name: str) -> None:
    replays = Record(then=LiveModel(model=name))
    async with ScriptedModel() as model, doorway(model.providers(), replays) as door:
        status, headers, _ = await asked_of(door, "bedrock/model/m/converse", {"messages": []})
        assert not model.requests
    assert (status, headers["x-amzn-errortype"]) == (400, "ValidationException")
    [call] = await door.calls()
    assert (call.attributes[REPLAY], CHANGED in call.attributes) == ("live", False)


async def test_without_a_provider_a_live_call_is_refused_as_ever() -> None:
    async with doorway({}, Record(then=LiveModel())) as door:
        status, _, body = await asked_of(door, CHAT, ASKED)
    assert status == 503
    assert b"OPENAI_API_KEY" in body


@pytest.mark.parametrize("session_id", ["fork-of-my-own-making-0000000000001", "fork-" + "0" * 31])
async def test_other_sessions_are_not_asked_for(session_id: str) -> None:
    session = msgspec.structs.replace(SESSION, session_id=session_id)
    replays = Record()
    async with (
        ScriptedModel() as model,
        doorway(model.providers(), replays, session=session) as door,
    ):
        status, _, _ = await asked_of(door, CHAT, ASKED)
    [call] = await door.calls()
    assert (status, replays.asked) == (200, [])
    assert REPLAY not in call.attributes


async def test_what_only_looks_like_a_fork_is_a_session_as_any_other() -> None:
    replays = Record()
    async with ScriptedModel() as model, doorway(model.providers(), replays) as door:
        status, _, _ = await asked_of(door, CHAT, ASKED)
    [call] = await door.calls()
    assert (status, len(replays.asked)) == (200, 1)
    assert not {REPLAY, FORK_ID, CHANGED} & set(call.attributes)


async def test_embeddings_and_lists_of_models_are_live_and_are_not_changed() -> None:
    seen: list[tuple[str, bytes]] = []

    async def handle(request: web.Request) -> web.Response:
        seen.append((request.path, await request.read()))
        return web.json_response({"data": [], "usage": {"prompt_tokens": 3}})

    replays = Record(then=OTHER)
    async with upstream(handle) as base_url, doorway(openai_at(base_url), replays) as door:
        status, _, _ = await asked_of(door, "openai/v1/embeddings", {"model": "e", "input": "a"})
        async with door.http.get(f"{door.url}/model/openai/v1/models/e") as got:
            assert (status, got.status) == (200, 200)
    asked = [(operation, model) for operation, model, _ in replays.asked]
    assert asked == [("Embeddings", "e"), ("GetModel", "e")]
    assert seen == [("/embeddings", b'{"model": "e", "input": "a"}'), ("/models/e", b"")]
    [call] = await door.calls()
    assert (call.attributes[REPLAY], call.attributes["gen_ai.usage.input_tokens"]) == ("live", 3)


async def test_a_body_that_is_too_large_is_refused_before_the_record_is_looked_at() -> None:
    replays = Record()
    limits = DoorwayLimits(body_bytes_max=1000)

    async def pieces() -> Any:
        for _ in range(3):
            yield b"x" * 500

    async with doorway({}, replays, limits=limits) as door:
        for data in (b"x" * 1001, pieces()):
            async with door.http.post(f"{door.url}/model/{CHAT}", data=data) as answer:
                assert answer.status == 413
    assert replays.asked == []


async def test_a_client_that_leaves_is_not_waited_for() -> None:
    waiting, left = asyncio.Event(), asyncio.Event()

    class Waiting(Record):
        async def model(self, *_: Any, **__: Any) -> ModelAnswer | LiveModel | None:
            waiting.set()
            try:
                await asyncio.Event().wait()
            finally:
                left.set()
            raise AssertionError("it waits for ever")

    async with doorway({}, Waiting()) as door, asyncio.timeout(120):
        call = asyncio.ensure_future(asked_of(door, CHAT, ASKED))
        await waiting.wait()
        call.cancel()
        await left.wait()


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "source"), CLIENTS)
async def test_a_providers_own_client_hears_what_was_recorded_and_then_another_model(
    kind: str, source: str
) -> None:
    """Two calls from the record, the third one, a stream, with the change."""
    async with ScriptedModel(SCRIPT) as model, doorway(model.providers()) as door:
        environment = session_environment(door.port, region="a-1", providers=model.providers())
        first = await run_client(source, environment, "7")
        asked = [request.document for request in model.requests if request.document]
    calls = await door.calls()
    replays = Record(calls[:2], LiveModel(model="other-model"))
    async with ScriptedModel(SCRIPT) as model, doorway(model.providers(), replays) as door:
        environment = session_environment(door.port, region="a-1", providers=model.providers())
        second = await run_client(source, environment, "7")
        [request] = [request for request in model.requests if request.document]
    again = await door.calls()
    assert second == first
    assert [call.attributes[REPLAY] for call in again] == ["recorded", "recorded", "live"]
    assert [REPLAY_DIFFERS in call.attributes for call in again] == [False] * 3
    assert [name for _, name, _ in replays.asked][:3] == [MODEL_NAME] * 3
    last = asked[2]
    if "model" in last:
        assert request.document == {**last, "model": "other-model"}
    else:
        assert request.document == last
        assert "/other-model" in request.path


async def test_a_recorded_answer_is_audited_and_authorized_as_any_call() -> None:
    async with open_doorway(
        {}, session=FORK_SESSION, replays=Record(), denied=frozenset({"models:ChatCompletions"})
    ) as door:
        status, _, _ = await asked_of(door, CHAT, {**ASKED, "messages": SAID})
    assert status == 403
