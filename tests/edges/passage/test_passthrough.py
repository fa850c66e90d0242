"""HTTP targets: bytes go through, and only what may go through."""

import asyncio
import secrets
from collections.abc import AsyncIterator

import httpx
import msgspec
import pytest
from aiohttp import web
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from passage_ground import KEY_ID, KEY_SECRET, SECRET, Ground, target, through, upstream


async def echo(request: web.Request) -> web.StreamResponse:
    body = await request.read()
    return web.json_response(
        {
            "method": request.method,
            "path": request.raw_path,
            "headers": {name.lower(): value for name, value in request.headers.items()},
            "body": body.decode("latin-1"),
        },
        headers={"X-Own": "kept back", "Set-Cookie": "a=b", "X-Asked-For": "yes", "ETag": '"1"'},
    )


async def test_a_call_reaches_its_target_and_its_answer_comes_back(
    ground: Ground, client: httpx.AsyncClient
) -> None:
    async with upstream(echo) as url:
        ground.has(through("weather", url + "/base"))
        answer = await client.post("/weather/v1/today%20x?city=Bern&x=1", content=b"ask")

    seen = answer.json()
    assert seen["method"] == "POST"
    assert seen["path"] == "/base/v1/today%20x?city=Bern&x=1"
    assert seen["body"] == "ask"
    assert answer.headers["etag"] == '"1"'
    assert answer.headers["content-security-policy"] == "sandbox"
    line = ground.audit.last()
    assert line.operation == "bedrock-agentcore:InvokeGateway"
    assert line.detail["target"] == "weather"
    assert line.status == 200


async def test_headers_pass_by_lists_and_inbound_credentials_end_here(
    ground: Ground, client: httpx.AsyncClient
) -> None:
    sent = {
        "cookie": "console=1", "x-private": "1", "x-asked": "2", "accept": "text/x",
        "x-amz-security-token": "t", "proxy-authorization": "p", "te": "trailers",
        "traceparent": "00-1-2-01", "connection": "keep-alive, x-asked-too", "x-asked-too": "3",
    }  # fmt: skip
    lists = {
        "headers": frozenset({"x-asked", "x-asked-too", "authorization", "cookie"}),
        "answer_headers": frozenset({"x-asked-for", "set-cookie"}),
    }
    async with upstream(echo) as url:
        ground.has(through("weather", url, **lists))
        answer = await client.get("/weather/x", headers=sent)

    seen = answer.json()["headers"]
    assert seen["x-asked"] == "2"
    assert seen["accept"] == "text/x"
    assert seen["traceparent"] == "00-1-2-01"
    kept_back = {
        "authorization", "cookie", "x-private", "x-amz-security-token", "proxy-authorization",
        "te", "x-asked-too",
    }  # fmt: skip
    assert kept_back.isdisjoint(seen)
    assert answer.headers["x-asked-for"] == "yes"
    assert "x-own" not in answer.headers
    assert "set-cookie" not in answer.headers


async def test_protocols_have_their_own_headers(ground: Ground, client: httpx.AsyncClient) -> None:
    sent = {"mcp-session-id": "s1", "a2a-version": "1.0", "openai-beta": "b"}
    async with upstream(echo) as url:
        ground.has(
            through("mcp", url, "MCP"), through("a2a", url, "A2A"), through("llm", url, "INFERENCE")
        )
        seen = {
            name: set((await client.get(f"/{name}/", headers=sent)).json()["headers"]) & set(sent)
            for name in ("mcp", "a2a", "llm")
        }
    assert seen == {"mcp": {"mcp-session-id"}, "a2a": {"a2a-version"}, "llm": {"openai-beta"}}


@pytest.mark.parametrize(
    ("resolution", "query", "expected"),
    [
        (None, "v=2", "v=2&key=k%201"),
        (None, "v=2&key=mine", "v=2&key=mine"),
        ("CLIENT_OVERRIDE", "", "key=k%201"),
        ("STATIC_OVERRIDE", "v=2&key=mine&k%65y=again", "v=2&key=k%201"),
    ],
)
async def test_static_query_parameters_win_or_give_way_as_configured(
    ground: Ground,
    client: httpx.AsyncClient,
    resolution: str | None,
    query: str,
    expected: str,
) -> None:
    options = {"staticQueryParameters": {"key": "k 1"}}
    if resolution:
        options["staticQueryParameterConflictResolution"] = resolution  # type: ignore[assignment]
    async with upstream(echo) as url:
        ground.has(through("weather", url, **options))
        answer = await client.get(f"/weather/x?{query}" if query else "/weather/x")
    assert answer.json()["path"] == f"/x?{expected}"


async def test_query_parameters_pass_by_their_list_and_never_a_signature(
    ground: Ground, client: httpx.AsyncClient
) -> None:
    async with upstream(echo) as url:
        ground.has(through("open", url), through("listed", url, query=frozenset({"a"})))
        query = "a=1&b=2&X-Amz-Signature=s&x-amz-credential=c&access_token=t"
        all_but_credentials = await client.get(f"/open/x?{query}")
        listed = await client.get(f"/listed/x?{query}")
    assert all_but_credentials.json()["path"] == "/x?a=1&b=2"
    assert listed.json()["path"] == "/x?a=1"


async def test_credentials_are_the_targets_own(ground: Ground, client: httpx.AsyncClient) -> None:
    in_query = {
        "credentialProviderType": "API_KEY",
        "credentialProvider": {
            "apiKeyCredentialProvider": {
                "credentialParameterName": "key", "credentialLocation": "QUERY_PARAMETER",
            }
        },
    }  # fmt: skip
    async with upstream(echo) as url:
        ground.has(
            through("key", url, credential={"credentialProviderType": "API_KEY"}),
            through("query", url, credential=in_query),
            through("jwt", url, credential={"credentialProviderType": "JWT_PASSTHROUGH"}),
            through("signed", url, credential={"credentialProviderType": "GATEWAY_IAM_ROLE"}),
            through("consent", url, credential={"credentialProviderType": "OAUTH"}),
        )
        seen = {
            name: (await client.post(f"/{name}/x?key=mine", content=b"12345")).json()
            for name in ("key", "query", "jwt", "signed")
        }
        consent = await client.get("/consent/x")
    assert seen["key"]["headers"]["authorization"] == SECRET
    assert seen["query"]["path"] == f"/x?key={SECRET}"
    assert seen["jwt"]["headers"]["authorization"] == "Bearer user-ann"
    assert seen["signed"]["headers"]["authorization"] == "SIGNED POST 5"
    assert consent.status_code == 403
    assert consent.json()["authorizationUrl"] == "https://provider.example/agree"
    assert consent.json()["target"] == "consent"


@pytest.mark.parametrize(
    "path",
    [
        "/weather/../other", "/weather/%2e%2e/other", "/weather/%2e%2e%2fother",
        "/weather/%252e%252e/x", "/weather/a/..;/b", "/weather/a%5c..%5cb", "/weather/a%00b",
        "/weather/a%0d%0ab",
    ],
)  # fmt: skip
async def test_a_path_that_climbs_is_refused(ground: Ground, path: str) -> None:
    async with upstream(echo) as url:
        ground.has(through("weather", url + "/inside"))
        host, port = ground.url.removeprefix("http://").partition("/")[0].split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        prefix = "/" + ground.url.removeprefix("http://").partition("/")[2]
        writer.write(
            f"GET {prefix}{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer user-ann\r\n"
            "Connection: close\r\n\r\n".encode()
        )
        async with asyncio.timeout(10):
            answer = await reader.read()
        writer.close()
    assert answer.startswith(b"HTTP/1.1 400")


async def test_uploads_and_answers_stream_both_ways(
    ground: Ground, client: httpx.AsyncClient
) -> None:
    """Nothing waits for an end: each piece is answered before the next one is sent."""

    async def ping(request: web.Request) -> web.StreamResponse:
        assert request.headers["transfer-encoding"] == "chunked"
        answer = web.StreamResponse()
        answer.content_type = "application/octet-stream"
        await answer.prepare(request)
        async for chunk in request.content.iter_any():
            await answer.write(b"<" + chunk + b">")
        return answer

    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"one"
        for said in (b"two", b"three"):
            assert await asyncio.wait_for(heard.get(), 10)
            yield said

    host, port = ground.url.removeprefix("http://").partition("/")[0].split(":")
    prefix = "/" + ground.url.removeprefix("http://").partition("/")[2]
    async with upstream(ping) as url, asyncio.timeout(20):
        ground.has(through("pipe", url))
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            f"POST {prefix}/pipe/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer user-ann\r\n"
            "Transfer-Encoding: chunked\r\n\r\n".encode()
        )
        for word in (b"one", b"two", b"three"):
            writer.write(b"%x\r\n%s\r\n" % (len(word), word))
            await reader.readuntil(b"<" + word + b">")
        writer.write(b"0\r\n\r\n")
        await reader.readuntil(b"0\r\n\r\n")
        writer.close()


async def test_large_bodies_pass_whole(ground: Ground, client: httpx.AsyncClient) -> None:
    blob = secrets.token_bytes(3 << 20)

    async def back(request: web.Request) -> web.StreamResponse:
        return web.Response(body=await request.read())

    async with upstream(back) as url:
        ground.has(through("blob", url))
        answer = await client.put("/blob/x", content=blob)
    assert answer.content == blob


async def test_events_come_as_they_are_said(ground: Ground, client: httpx.AsyncClient) -> None:
    said, go_on = asyncio.Event(), asyncio.Event()

    async def events(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        answer.content_type = "text/event-stream"
        await answer.prepare(request)
        await answer.write(b"data: 1\n\n")
        said.set()
        await go_on.wait()
        await answer.write(b"data: 2\n\n")
        return answer

    async with upstream(events) as url, asyncio.timeout(20):
        ground.has(through("events", url))
        async with client.stream("GET", "/events/") as answer:
            chunks = answer.aiter_bytes()
            assert await anext(chunks) == b"data: 1\n\n"
            go_on.set()
            assert await anext(chunks) == b"data: 2\n\n"
    assert answer.headers["content-type"] == "text/event-stream"


async def test_a_client_that_leaves_is_noticed_by_the_target(
    ground: Ground, client: httpx.AsyncClient
) -> None:
    gone = asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        try:
            while True:
                await answer.write(b"x")
                await asyncio.sleep(0.01)
        finally:
            gone.set()

    async with upstream(endless) as url, asyncio.timeout(20):
        ground.has(through("endless", url))
        async with client.stream("GET", "/endless/") as answer:
            await anext(answer.aiter_bytes())
        await gone.wait()
        while not ground.audit.events or ground.audit.last().status != 499:
            await asyncio.sleep(0.01)


async def test_a_redirect_is_the_clients_to_follow_and_leads_through_the_gateway(
    ground: Ground, client: httpx.AsyncClient
) -> None:
    asked: list[str] = []

    async def redirect(request: web.Request) -> web.StreamResponse:
        asked.append(request.raw_path)
        return web.Response(status=302, headers={"Location": request.query["to"]})

    async with upstream(redirect) as url:
        ground.has(through("there", url + "/base"))
        found = {}
        for to in (
            "/base/new?x=1",
            "sibling",
            f"{url}/base/",
            "/outside",
            "https://evil.example/",
            "//evil.example/base/",
            "/base/../x",
            "http://127.0.0.1:1/base/x",
        ):
            answer = await client.get("/there/old", params={"to": to})
            assert answer.status_code == 302
            found[to] = answer.headers.get("location")
    own = "/gateway/gate-abcdefghij/there"
    assert found == {
        "/base/new?x=1": f"{own}/new?x=1", "sibling": f"{own}/sibling", f"{url}/base/": f"{own}/",
        "/outside": None, "https://evil.example/": None, "//evil.example/base/": None,
        "/base/../x": None, "http://127.0.0.1:1/base/x": None,
    }  # fmt: skip
    assert len(asked) == 8, "nothing was followed"


async def test_what_is_not_there_is_said(ground: Ground, client: httpx.AsyncClient) -> None:
    ground.has(
        through("ill", "http://127.0.0.1:1", status="FAILED", why="no answer at creation"),
        target("memory", "http.connector", {"source": {"connectorId": "x"}}),
        through("hidden", "http://10.0.0.1/"),
    )
    absent = await client.get("/absent/x")
    ill = await client.get("/ill/x")
    connector = await client.get("/memory/x")
    hidden = await client.get("/hidden/x")
    other = await client.get("http://" + client.base_url.netloc.decode() + "/gateway/other/x/y")
    stranger = await client.get("/ill/x", headers={"authorization": ""})

    assert absent.status_code == 404
    assert "absent" in absent.json()["message"]
    assert ill.status_code == 503
    assert "FAILED (no answer at creation)" in ill.json()["message"]
    assert connector.status_code == 501
    assert hidden.status_code == 502
    assert other.status_code == 404
    assert stranger.status_code == 401
    metadata = "/.well-known/oauth-protected-resource/gateway/gate-abcdefghij/mcp"
    assert stranger.headers["www-authenticate"].endswith(f'{metadata}"')


async def test_a_target_that_keeps_failing_is_left_alone_until_a_probe_goes_well(
    ground: Ground, client: httpx.AsyncClient
) -> None:
    status, asked = 503, 0

    async def moody(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        return web.Response(status=status, text="mood")

    async with upstream(moody) as url:
        ground.has(through("moody", url, breaker_seconds=30.0), through("fine", url))
        for _ in range(3):
            assert (await client.get("/moody/")).text == "mood"
        refused = await client.get("/moody/")
        assert refused.status_code == 503
        assert refused.json()["target"] == "moody"
        assert int(refused.headers["retry-after"]) == 30
        assert asked == 3

        ground.now = 31.0
        assert (await client.get("/moody/")).text == "mood", "one may try"
        assert (await client.get("/moody/")).json()["target"] == "moody", "and it failed"
        ground.now, status = 62.0, 200
        assert [(await client.get("/moody/")).status_code for _ in range(5)] == [200] * 5


async def test_a_target_that_is_not_there_is_named_and_its_breaker_opens(
    ground: Ground, client: httpx.AsyncClient
) -> None:
    ground.has(through("gone", "http://127.0.0.1:1"))
    answers = [(await client.get("/gone/")) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [502, 502, 502, 503]
    assert "could not be connected to" in answers[0].json()["message"]


async def test_a_slow_target_is_a_504(ground: Ground, client: httpx.AsyncClient) -> None:
    async def slow(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(30)
        raise AssertionError

    async with upstream(slow) as url:
        ground.has(through("slow", url, seconds=0.1))
        answer = await client.get("/slow/")
    assert answer.status_code == 504


async def test_an_answer_that_breaks_off_is_cut_and_not_taken_for_whole(
    ground: Ground, client: httpx.AsyncClient
) -> None:
    async def broken(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        await answer.write(b"half")
        assert request.transport is not None
        request.transport.close()
        return answer

    async with upstream(broken) as url:
        ground.has(through("broken", url))
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/broken/")
    assert ground.audit.last().outcome == "failed"


async def test_an_agent_of_ours_is_a_target(ground: Ground, client: httpx.AsyncClient) -> None:
    arn = "arn:aws:bedrock-agentcore:us-east-1:123456789012:runtime/demo"
    ground.has(target("agent", "http.agentcoreRuntime", {"arn": arn, "qualifier": "prod"}))
    session = "X-Amzn-Bedrock-AgentCore-Runtime-Session-Id"
    answer = await client.post(
        "/agent/invocations", content=b"hello", headers={session: "s" * 40, "x-private": "1"}
    )
    other = await client.get("/agent/ping")

    assert answer.text == "data: you said hello\n\n"
    assert answer.headers[session] == "s" * 40
    (call,) = ground.agents.calls
    assert (call.arn, call.qualifier, call.session_id) == (arn, "prod", "s" * 40)
    assert "x-private" not in call.headers
    assert ground.agents.closed == 1
    assert other.status_code == 404


@pytest.mark.parametrize("method", ["HEAD", "GET", "OPTIONS", "DELETE", "PATCH", "PROPFIND"])
async def test_any_method_passes(ground: Ground, client: httpx.AsyncClient, method: str) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        if request.query.get("not") == "modified":
            return web.Response(status=304, headers={"ETag": '"1"'})
        if request.query.get("no") == "content":
            return web.Response(status=204)
        return web.Response(text=f"{request.method} is fine")

    async with upstream(answer) as url:
        ground.has(through("any", url))
        fine = await client.request(method, "/any/")
        unchanged = await client.request(method, "/any/?not=modified")
        empty = await client.request(method, "/any/?no=content")
        again = await client.request(method, "/any/")
    assert fine.text == again.text == ("" if method == "HEAD" else f"{method} is fine")
    assert (unchanged.status_code, unchanged.headers["etag"]) == (304, '"1"')
    assert empty.status_code == 204


async def test_a_caller_who_signs_is_known_by_its_key_and_the_signature_ends_here(
    ground: Ground,
) -> None:
    ground.door = msgspec.structs.replace(ground.door, authorizer="AWS_IAM")
    ground.gateways.one = ground.door
    blob = secrets.token_bytes(1 << 20)

    async def back(request: web.Request) -> web.StreamResponse:
        assert await request.read() == blob
        found = {name.lower() for name in request.headers}
        return web.Response(
            text=",".join(sorted(name for name in found if "auth" in name or "amz" in name))
        )

    request = AWSRequest(
        "POST", f"{ground.url}/pipe/x%20y?b=2&a=1", data=blob, headers={"x-amz-target": "x"}
    )
    SigV4Auth(Credentials(KEY_ID, KEY_SECRET), "bedrock-agentcore", "us-east-1").add_auth(request)
    prepared = request.prepare()
    async with upstream(back) as url, httpx.AsyncClient(timeout=20) as plain:
        ground.has(through("pipe", url, headers=frozenset({"authorization", "x-amz-date"})))
        answer = await plain.post(prepared.url, content=blob, headers=dict(prepared.headers))
        tampered = await plain.post(
            prepared.url, content=bytes([blob[0] ^ 1]) + blob[1:], headers=dict(prepared.headers)
        )
    assert (answer.status_code, answer.text) == (200, "")
    assert tampered.status_code == 403
    assert KEY_ID in str(ground.audit.events[-3].principal)
