"""Targets over real HTTP: from a model to an answer."""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from random import Random
from typing import Any
from xml.sax.saxutils import escape

import pytest
from aiohttp import web
from smithy_models import member, model, operation, structure

from freehold.adapters.egress.addresses import denied, forbidden
from freehold.adapters.targets.smithy import SmithyTargets, convert
from freehold.adapters.web.client import CheckedWeb
from freehold.adapters.web.destination import Destinations
from freehold.kernel.errors import ValidationFailed
from freehold.ports.targets import (
    Credential,
    Definition,
    Described,
    Errand,
    Place,
    TargetFailed,
)

Json = dict[str, Any]
Answering = Callable[[web.Request], Awaitable[web.StreamResponse]]
ARN = "arn:aws:bedrock-agentcore:eu-west-1:123456789012:gateway/g-1"

SHAPES: Json = {
    "PutInput": structure(
        id=member("String", required=True, httpLabel=True),
        name=member("String", jsonName="Name"),
        born=member("Timestamp"),
        trace=member("String", httpHeader="X-Trace"),
    ),
    "PutOutput": structure(
        name=member("String", jsonName="Name"),
        born=member("Timestamp"),
        version=member("String", httpHeader="ETag"),
    ),
    "PutPet": operation("PutInput", "PutOutput", http=("PUT", "/pets/{id}")),
    "Feed": operation("PutInput", "PutOutput", http=("POST", "/pets/{id}/meals")),
}


def rules(url: str) -> Json:
    """The shortest that Smithy has for an endpoint."""
    endpoint = {"conditions": [], "endpoint": {"url": url}, "type": "endpoint"}
    return {
        "smithy.rules#endpointRuleSet": {"version": "1.0", "parameters": {}, "rules": [endpoint]}
    }


def place(text: str, *, server: Json | None = None, **configuration: Any) -> Place:
    return Place(
        tenant="123456789012", gateway_id="g-1", gateway_arn=ARN, target_id="T1", name="pets",
        kind="mcp.smithyModel", configuration={"inlinePayload": text, **configuration},
        server=server or {},
    )  # fmt: skip


def errand(**more: Any) -> Errand:
    return Errand(request_id="r-1", owner="123456789012/someone", **more)


@contextlib.asynccontextmanager
async def targets(answer: Answering, **more: Any) -> AsyncIterator[tuple[SmithyTargets, str]]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    client = CheckedWeb(
        Destinations(
            denied=denied, forbidden=forbidden, listed=frozenset({"127.0.0.1"}), setting="LISTED"
        )
    )
    await client.start()
    try:
        yield SmithyTargets(client, **more), f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await client.close()
        await runner.cleanup()


async def described(
    client: SmithyTargets, url: str, shapes: Json, **more: Any
) -> tuple[Place, dict[str, Definition]]:
    made = place(json.dumps(model(shapes, traits=rules(url), **more)))
    found = await client.describe(made, errand())
    known = place(made.configuration["inlinePayload"], server=found.server)
    return known, {d.name: d for d in found.definitions}


async def test_a_call_goes_out_as_modelled_and_comes_back_as_modelled() -> None:
    seen: list[Any] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append((request.method, request.raw_path, dict(request.headers),
                     json.loads(await request.text())))  # fmt: skip
        return web.json_response(
            {"Name": "Rex", "born": 1769860800, "more": None}, headers={"ETag": "v2"}
        )

    async with targets(answer) as (client, url):
        known, tools = await described(client, url, SHAPES)
        assert known.server["endpointFrom"] == "rules"
        arguments = {"id": "a b", "name": "Rex", "born": "2026-01-31T12:00:00Z", "trace": "t"}
        result = await client.call(known, tools["PutPet"], arguments, errand(
            headers={"traceparent": "00-1", "X-Trace": "not this"}, query={"tenant": "x&y"},
            credential=Credential(headers={"X-Api-Key": "sEcReT"}),
        ))  # fmt: skip
    ((method, path, headers, body),) = seen
    assert (method, path) == ("PUT", "/pets/a%20b?tenant=x%26y")
    assert body == {"Name": "Rex", "born": 1769860800}
    lower = {name.lower(): value for name, value in headers.items()}
    assert lower["content-type"] == "application/json"
    assert (lower["x-trace"], lower["traceparent"], lower["x-api-key"]) == ("t", "00-1", "sEcReT")
    expected = {"name": "Rex", "born": "2026-01-31T12:00:00Z", "version": "v2"}
    assert result["structuredContent"] == expected
    assert json.loads(result["content"][0]["text"]) == expected
    assert result["isError"] is False


async def test_what_was_signed_is_what_arrives() -> None:
    def signature(method: str, target: str, host: str, body: bytes) -> str:
        return hashlib.sha256(f"{method} {host}{target} {body!r}".encode()).hexdigest()

    def signer(method: str, url: str, headers: Mapping[str, str], body: bytes) -> Mapping[str, str]:
        host, slash, target = url.partition("://")[2].partition("/")
        return {**headers, "authorization": signature(method, slash + target, host, body)}

    async def answer(request: web.Request) -> web.Response:
        body = await request.read()
        made = signature(request.method, request.raw_path, request.headers["Host"], body)
        return web.json_response({"Name": str(request.headers["Authorization"] == made)})

    async with targets(answer) as (client, url):
        known, tools = await described(client, url, SHAPES)
        for name in ("plain", "a/b c", "ü+%2F", "$&'()*,;=:@!~"):
            result = await client.call(
                known, tools["PutPet"], {"id": name, "name": name},
                errand(credential=Credential(signer=signer)),
            )  # fmt: skip
            assert result["structuredContent"]["name"] == "True", name


async def test_a_service_of_queries_and_xml_is_called_too() -> None:
    async def answer(request: web.Request) -> web.Response:
        form = await request.post()
        who = str(form["Who.member.1"])
        name = who if who == "<broken" else escape(who)
        return web.Response(
            text=f"<GetResponse><GetResult><Names><member>{name}</member></Names>"
            f"</GetResult></GetResponse>",
            content_type="text/xml",
        )

    shapes = {
        "Names": {"type": "list", "member": member("String")},
        "In": structure(Who=member("Names")),
        "Out": structure(Names=member("Names")),
        "Get": operation("In", "Out"),
    }
    async with targets(answer) as (client, url):
        known, tools = await described(client, url, shapes, protocol="aws.protocols#awsQuery")
        result = await client.call(known, tools["Get"], {"Who": ["<Rex> & co"]}, errand())
        assert result["isError"] is False, result
        with pytest.raises(TargetFailed, match="no XML"):
            await client.call(known, tools["Get"], {"Who": ["<broken"]}, errand())
    assert result["structuredContent"] == {"Names": ["<Rex> & co"]}


async def test_what_a_service_refuses_is_a_result() -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.json_response(
            {"message": "Slow down."},
            status=429,
            headers={"X-Amzn-ErrorType": "ThrottlingException"},
        )

    async with targets(answer) as (client, url):
        known, tools = await described(client, url, SHAPES)
        result = await client.call(known, tools["PutPet"], {"id": "a"}, errand())
    assert result["isError"] is True
    assert result["content"][0]["text"] == (
        "ThrottlingException (HTTP 429): Slow down. Trying again later may help."
    )


async def test_an_argument_that_cannot_go_out_is_a_result_and_nothing_is_sent() -> None:
    calls = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal calls
        calls += 1
        return web.json_response({})

    async with targets(answer) as (client, url):
        known, tools = await described(client, url, SHAPES)
        deep: Json = {}
        for _ in range(100_000):
            deep = {"born": deep}
        for arguments in ({"id": ".."}, {"id": "a", "born": "soon"}, {"id": "a", "name": deep}):
            result = await client.call(known, tools["PutPet"], arguments, errand())
            assert result["isError"] is True
            assert "not sent" in result["content"][0]["text"]
    assert calls == 0


async def test_a_broken_connection_is_tried_again_where_that_does_no_harm() -> None:
    calls: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        calls.append(request.method)
        await request.read()
        assert request.transport is not None
        if len(calls) % 2:
            request.transport.abort()
            await asyncio.sleep(0)
        return web.json_response({"Name": "Rex"})

    async with targets(answer) as (client, url):
        known, tools = await described(client, url, SHAPES)
        result = await client.call(known, tools["PutPet"], {"id": "a"}, errand())
        assert result["structuredContent"] == {"name": "Rex"}
        assert calls == ["PUT", "PUT"]
        with pytest.raises(TargetFailed) as failed:
            await client.call(known, tools["Feed"], {"id": "a"}, errand())
        assert calls == ["PUT", "PUT", "POST"]
        assert not failed.value.retriable


async def test_a_service_that_does_not_answer_is_left_in_time() -> None:
    ended = asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        await ended.wait()
        return web.json_response({})

    async with targets(answer) as (client, url):
        known, tools = await described(client, url, SHAPES)
        with pytest.raises(TargetFailed) as failed:
            await client.call(known, tools["Feed"], {"id": "a"}, errand(seconds_max=0.2))
        ended.set()
    assert failed.value.timed_out


async def test_an_answer_that_is_too_long_is_a_result_that_asks_for_less() -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"Name": "x" * 5000})

    async with targets(answer, answer_bytes_max=1000) as (client, url):
        known, tools = await described(client, url, SHAPES)
        result = await client.call(known, tools["PutPet"], {"id": "a"}, errand())
    assert result["isError"] is True
    assert "1000 bytes" in result["content"][0]["text"]


async def test_a_place_on_a_private_network_is_asked_only_where_the_operator_lists_it() -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.json_response({})

    async with targets(answer) as (client, _):
        for url in ("http://169.254.169.254", "https://10.0.0.1", "http://pets.example.com"):
            known, tools = await described(client, url, SHAPES)
            with pytest.raises(TargetFailed, match=r"only asked|never asked"):
                await client.call(known, tools["PutPet"], {"id": "a"}, errand())


async def test_a_changed_definition_is_called_by_its_new_plan() -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"Name": request.path})

    async with targets(answer) as (client, url):
        for path in ("/old/{id}", "/new/{id}"):
            shapes = {**SHAPES, "PutPet": operation("PutInput", "PutOutput", http=("PUT", path))}
            known, tools = await described(client, url, shapes)
            result = await client.call(known, tools["PutPet"], {"id": "a"}, errand())
            assert result["structuredContent"]["name"] == path.replace("{id}", "a")


async def test_the_configuration_names_another_place_than_the_model() -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"Name": request.path})

    async with targets(answer) as (client, url):
        text = json.dumps(model(SHAPES, traits=rules("https://pets.example.com")))
        first = place(text, endpoint=f"{url}/base/")
        found = await client.describe(first, errand())
        assert (found.server["endpoint"], found.server["endpointFrom"]) == (
            f"{url}/base", "configuration",
        )  # fmt: skip
        known = place(text, server=found.server, endpoint=f"{url}/base/")
        tool = next(d for d in found.definitions if d.name == "PutPet")
        result = await client.call(known, tool, {"id": "a"}, errand())
    assert result["structuredContent"]["name"] == "/base/pets/a"


async def offline(text: str, **configuration: Any) -> Described:
    unopened = CheckedWeb(
        Destinations(denied=denied, forbidden=forbidden, listed=frozenset(), setting="LISTED")
    )
    return await SmithyTargets(unopened).describe(place(text, **configuration), errand())


@pytest.mark.parametrize(
    ("traits", "endpoint"),
    [
        ({"aws.api#service": {"endpointPrefix": "pets"}}, "https://pets.eu-west-1.amazonaws.com"),
        ({"aws.auth#sigv4": {"name": "pets"}}, "https://pets.eu-west-1.amazonaws.com"),
        (
            {**rules("https://{Region}.example.com"), "aws.auth#sigv4": {"name": "pets"}},
            "https://pets.eu-west-1.amazonaws.com",
        ),
    ],
)
async def test_a_service_of_awss_is_in_the_gateways_region(traits: Json, endpoint: str) -> None:
    found = await offline(json.dumps(model(SHAPES, traits=traits)))
    assert (found.server["endpoint"], found.server["endpointFrom"]) == (endpoint, "name")
    if "aws.auth#sigv4" in traits:
        assert found.server["signing"] == {"service": "pets", "region": "eu-west-1"}


@pytest.mark.parametrize(
    ("traits", "said"),
    [
        ({}, "where its service is"),
        ({"aws.api#service": {"endpointPrefix": "evil.com/"}}, "where its service is"),
        (rules("ftp://pets.example.com"), "has to be a URL"),
        (rules("https://user:secret@pets.example.com"), "has to be a URL"),
        (rules("https://pets.example.com/?a=b"), "has to be a URL"),
    ],
)
async def test_a_service_that_is_nowhere_is_no_target(traits: Json, said: str) -> None:
    with pytest.raises(ValidationFailed, match=said) as refused:
        await offline(json.dumps(model(SHAPES, traits=traits)))
    assert "secret" not in str(refused.value)


async def test_a_target_without_a_model_is_none() -> None:
    with pytest.raises(ValidationFailed, match="inlinePayload"):
        await offline("")


def test_a_model_that_is_broken_anywhere_is_refused_or_read_and_nothing_else() -> None:
    random = Random(5)
    whole = model(SHAPES, traits={
        **rules("https://pets.example.com"), "aws.auth#sigv4": {"name": "pets"},
        "smithy.api#title": "Pets", "smithy.api#paginated": {"inputToken": "a"},
    })  # fmt: skip
    junk = [None, 1, -1.5, "", "x#y", [], {}, [1], {"a": 1}, True, "smithy.api#String", "{", "/{a}"]

    def paths(node: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        entries = node.items() if isinstance(node, dict) else enumerate(node)
        found = [at] if at else []
        for name, inner in entries if isinstance(node, dict | list) else ():
            found += paths(inner, (*at, name)) if isinstance(inner, dict | list) else [(*at, name)]
        return found

    every = paths(whole)
    outcomes = set()
    for path in every:
        for value in random.sample(junk, 4):
            broken = json.loads(json.dumps(whole))
            node = broken
            for step in path[:-1]:
                node = node[step]
            node[path[-1]] = value
            try:
                made = convert(json.dumps(broken), region="eu-west-1")
            except ValidationFailed:
                outcomes.add("refused")
            else:
                outcomes.add("problems" if made.problems else "read")
    assert outcomes == {"refused", "problems", "read"}
    assert len(every) > 50
