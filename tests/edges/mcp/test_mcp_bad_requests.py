"""What is not MCP, or could be read in two ways, is refused, and nothing of it comes through."""

import json
from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import httpx
import pytest
from mcp_ground import ACCEPT, MODERN, Worker, begun, call, modern_body, modern_headers

JSON_HEADERS = {"accept": ACCEPT, "content-type": "application/json"}
PING = '{"jsonrpc":"2.0","id":1,"method":"ping"}'


class Bad(NamedTuple):
    what: str
    body: str | bytes
    status: int
    code: int
    headers: Mapping[str, str] = MappingProxyType({})


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def called(arguments: str) -> str:
    head = '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":'
    return head + arguments + "}}"


BAD = [
    Bad("nothing", "", 400, -32700),
    Bad("no JSON", "{", 400, -32700),
    Bad("two documents", PING + PING, 400, -32700),
    Bad("not UTF-8", b'{"jsonrpc":"2.0","id":1,"method":"\xff"}', 400, -32700),
    Bad("half a surrogate pair", called('{"text":"\\ud800"}'), 400, -32700),
    Bad("NaN", called('{"text":NaN}'), 400, -32700),
    Bad("a number beyond doubles", called('{"text":1e999}'), 400, -32700),
    Bad("a byte order mark", b"\xef\xbb\xbf" + PING.encode(), 400, -32700),
    Bad("a method twice", PING.replace("}", ',"method":"tools/list"}'), 400, -32700),
    Bad("an argument twice", called('{"text":"a","text":"b"}'), 400, -32700),
    Bad("an argument twice, once escaped", called('{"text":"a","te\\u0078t":"b"}'), 400, -32700),
    Bad("a key twice, far below", called('{"a":[{"b":[{"c":1,"c":2}]}]}'), 400, -32700),
    Bad("nested too deeply", called('{"text":' + nested(70) + "}"), 400, -32700),
    Bad("nested much too deeply", nested(100_000), 400, -32700),
    Bad("a string", '"ping"', 400, -32600),
    Bad("null", "null", 400, -32600),
    Bad("no version", '{"id":1,"method":"ping"}', 400, -32600),
    Bad("version 1", PING.replace("2.0", "1.0"), 400, -32600),
    Bad("an id that is null", PING.replace("1,", "null,"), 400, -32600),
    Bad("an id that is true", PING.replace("1,", "true,"), 400, -32600),
    Bad("an id that is a fraction", PING.replace("1,", "1.5,"), 400, -32600),
    Bad("an id that is an object", PING.replace("1,", "{},"), 400, -32600),
    Bad("an id that is endless", PING.replace("1,", f'"{"x" * 300}",'), 400, -32600),
    Bad("a method that is a number", PING.replace('"ping"', "7"), 400, -32600),
    Bad("an empty method", PING.replace('"ping"', '""'), 400, -32600),
    Bad("an endless method", PING.replace('"ping"', f'"{"x" * 200}"'), 400, -32600),
    Bad("params that are a list", PING.replace("}", ',"params":[1]}'), 400, -32602),
    Bad("params that are null", PING.replace("}", ',"params":null}'), 400, -32602),
    Bad("_meta that is a list", PING.replace("}", ',"params":{"_meta":[]}}'), 400, -32602),
    Bad("Method", PING.replace('"method"', '"Method"'), 400, -32600),
    Bad("method and Method", PING.replace("}", ',"Method":"tools/call"}'), 400, -32600),
    Bad("params with a long s", PING.replace("}", ',"param\\u017f":{}}'), 400, -32600),
    Bad("Arguments", called("{}").replace('"arguments"', '"Arguments"'), 400, -32600),
    Bad("name and NAME", called("{}").replace('"name"', '"NAME":"wait","name"'), 400, -32600),
    Bad("a result in a request", PING.replace("}", ',"result":{}}'), 400, -32600),
    Bad("a response with both", '{"jsonrpc":"2.0","id":1,"result":{},"error":{}}', 400, -32600),
    Bad("a response to nothing", '{"jsonrpc":"2.0","result":{}}', 400, -32600),
    Bad("an empty batch", "[]", 400, -32600),
    Bad("a batch of numbers", "[1,2]", 400, -32600),
    Bad("a batch too long", f"[{','.join([PING] * 51)}]", 400, -32600),
    Bad("a batch in 2025-06-18", f"[{PING}]", 400, -32600, {"mcp-protocol-version": "2025-06-18"}),
    Bad("initialize in a batch", f'[{PING},{{"jsonrpc":"2.0","id":2,"method":"initialize"}}]', 400,
        -32600),
    Bad("initialize without params", PING.replace("ping", "initialize"), 400, -32602),
    Bad("an unknown version", PING, 400, -32602, {"mcp-protocol-version": "1999-01-01"}),
    Bad("text/plain", PING, 415, -32600, {"content-type": "text/plain"}),
    Bad("no content type", PING, 415, -32600, {"content-type": ""}),
    Bad("UTF-16", PING, 415, -32600, {"content-type": "application/json; charset=utf-16"}),
    Bad("only HTML accepted", PING, 406, -32600, {"accept": "text/html"}),
    Bad("a foreign origin", PING, 403, -32600, {"origin": "http://evil.example.com"}),
    Bad("an origin that is null", PING, 403, -32600, {"origin": "null"}),
    Bad("an origin like ours", PING, 403, -32600, {"origin": "http://localhost.evil.example"}),
    Bad("a foreign host", PING, 421, -32600, {"host": "evil.example.com"}),
    Bad("a host with a user", PING, 421, -32600, {"host": "localhost@evil.example.com"}),
    Bad("a session that never was", PING, 404, -32004, {"mcp-session-id": "x" * 32}),
    Bad("an endless session id", PING, 404, -32004, {"mcp-session-id": "x" * 5000}),
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.what)
async def test_bad_requests_are_refused(bad: Bad, worker: Worker, http: httpx.AsyncClient) -> None:
    headers = {**JSON_HEADERS, **bad.headers}
    body = bad.body if isinstance(bad.body, bytes) else bad.body.encode()
    answer = await http.post(worker.at(), content=body, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (bad.status, bad.code), (
        answer.text
    )
    assert answer.json()["jsonrpc"] == "2.0"
    assert worker.gateway.heard == []


MODERN_BAD: list[tuple[str, dict[str, Any], dict[str, str | None], int, int]] = [
    ("no version header", modern_body("tools/list"), {"mcp-protocol-version": None}, 400, -32020),
    ("another version in the header", modern_body("tools/list"),
     {"mcp-protocol-version": "2025-11-25"}, 400, -32020),
    ("no method header", modern_body("tools/list"), {"mcp-method": None}, 400, -32020),
    ("another method", modern_body("tools/list"), {"mcp-method": "prompts/list"}, 400, -32020),
    ("a method in capitals", modern_body("tools/list"), {"mcp-method": "TOOLS/LIST"}, 400, -32020),
    ("no name", modern_body("tools/call", name="echo"), {"mcp-method": "tools/call"}, 400, -32020),
    ("another name", modern_body("tools/call", name="echo"),
     {"mcp-method": "tools/call", "mcp-name": "wait"}, 400, -32020),
    ("a name that is no base64", modern_body("tools/call", name="echo"),
     {"mcp-method": "tools/call", "mcp-name": "=?base64?ZWN!?="}, 400, -32020),
    ("another URI", modern_body("resources/read", uri="test://a"),
     {"mcp-method": "resources/read", "mcp-name": "test://b"}, 400, -32020),
    ("an unknown version", modern_body(
        "tools/list", _meta={"io.modelcontextprotocol/protocolVersion": "2099-01-01"}),
     {"mcp-protocol-version": "2099-01-01"}, 400, -32022),
    ("no _meta", {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}, {}, 400, -32602),
    ("capabilities that are none", modern_body(
        "tools/list", _meta={"io.modelcontextprotocol/clientCapabilities": 7}), {}, 400, -32602),
    ("a meta key in another case", modern_body(
        "tools/list", _meta={"io.modelcontextprotocol/ClientInfo": {}}), {}, 400, -32600),
    ("a method of the era before", modern_body("ping"), {"mcp-method": "ping"}, 404, -32601),
    ("a method that is none", modern_body("no/such"), {"mcp-method": "no/such"}, 404, -32601),
    ("a tool that is none", modern_body("tools/call", name="none"),
     {"mcp-method": "tools/call", "mcp-name": "none"}, 400, -32602),
    ("listening to nothing", modern_body("subscriptions/listen"),
     {"mcp-method": "subscriptions/listen"}, 400, -32602),
]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [each[1:] for each in MODERN_BAD],
    ids=[each[0] for each in MODERN_BAD],
)
async def test_bad_requests_of_the_modern_era_are_refused(
    body: dict[str, Any],
    headers: dict[str, str | None],
    status: int,
    code: int,
    *,
    worker: Worker,
    http: httpx.AsyncClient,
) -> None:
    sent = {**modern_headers(body["method"]), **headers}
    given = {name: value for name, value in sent.items() if value is not None}
    answer = await http.post(worker.at(), json=body, headers=given)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text
    assert answer.json()["id"] == 1
    if code == -32022:
        assert answer.json()["error"]["data"] == {"supported": [MODERN], "requested": "2099-01-01"}


async def test_a_header_sent_twice_is_refused(worker: Worker, http: httpx.AsyncClient) -> None:
    headers = [*modern_headers("tools/list").items(), ("mcp-method", "tools/list")]
    answer = await http.post(worker.at(), json=modern_body("tools/list"), headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32020)


async def test_a_name_that_headers_cannot_carry_is_wrapped(
    worker: Worker, http: httpx.AsyncClient
) -> None:
    headers = modern_headers("tools/call", "=?base64?ZWNobw==?=")
    body = modern_body("tools/call", name="echo", arguments={"text": "ä"})
    answer = await http.post(worker.at(), json=body, headers=headers)
    assert answer.json()["result"]["content"][0]["text"] == "ä"


async def test_a_body_beyond_the_cap_is_refused(http: httpx.AsyncClient, new_worker: Any) -> None:
    async with new_worker(payload_bytes_max=1000) as worker:
        for extra in (800, 1000, 100_000):
            answer = await http.post(
                worker.at(), json=call("echo", text="x" * extra), headers={"accept": ACCEPT}
            )
            assert answer.status_code == (200 if extra == 800 else 413)

        async def undeclared() -> AsyncIterator[bytes]:
            yield json.dumps(call("echo", text="x" * 2000)).encode()

        answer = await http.post(worker.at(), content=undeclared(), headers=JSON_HEADERS)
        assert answer.status_code == 400
    assert len(worker.gateway.heard) == 1


async def test_extra_members_are_let_pass(worker: Worker, http: httpx.AsyncClient) -> None:
    body = call("echo", text="x")
    body["params"]["somethingNew"] = {"deep": [1]}
    answer = await http.post(worker.at(), json=body, headers={"accept": ACCEPT})
    assert answer.status_code == 200
    assert worker.gateway.heard[0].params["somethingNew"] == {"deep": [1]}


async def test_colons_and_escapes_in_strings_are_no_keys(
    worker: Worker, http: httpx.AsyncClient
) -> None:
    for text in ('a":b', 'x\\"y":', "::::", "\\", '"{"a":1,"a":2}"', "\u2028:"):
        answer = await http.post(
            worker.at(), content=json.dumps(call("echo", text=text)), headers=JSON_HEADERS
        )
        assert answer.json()["result"]["content"][0]["text"] == text


@pytest.mark.parametrize("method", ["PUT", "PATCH", "OPTIONS"])
async def test_other_http_methods_are_not_allowed(
    method: str, worker: Worker, http: httpx.AsyncClient
) -> None:
    answer = await http.request(method, worker.at())
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, POST, DELETE")


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_the_modern_era_has_post_alone(
    method: str, worker: Worker, http: httpx.AsyncClient
) -> None:
    headers = {"accept": ACCEPT, "mcp-protocol-version": MODERN}
    answer = await http.request(method, worker.at(), headers=headers)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


async def test_batches_are_answered_in_the_revision_that_has_them(
    worker: Worker, http: httpx.AsyncClient
) -> None:
    headers = await begun(http, worker.at(), "2025-03-26")
    body = [
        call("echo", 1, text="a"),
        {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"},
        call("nonesuch", 2),
        {"jsonrpc": "2.0", "id": 3, "method": "ping"},
    ]
    answer = await http.post(worker.at(), json=body, headers=headers)
    assert [each["id"] for each in answer.json()] == [1, 2, 3]
    assert [("error" in each) for each in answer.json()] == [False, True, False]
    told = [message.method for message in worker.gateway.heard]
    assert told == ["notifications/roots/list_changed", "tools/call", "tools/call"]


async def test_a_notification_is_accepted_without_an_answer(
    worker: Worker, http: httpx.AsyncClient
) -> None:
    headers = await begun(http, worker.at())
    for method in ("notifications/initialized", "notifications/progress", "notifications/new"):
        body = {"jsonrpc": "2.0", "method": method, "params": {"progress": 1}}
        answer = await http.post(worker.at(), json=body, headers=headers)
        assert (answer.status_code, answer.content) == (202, b"")
    heard = [message.method for message in worker.gateway.heard]
    assert heard == ["notifications/progress", "notifications/new"]
