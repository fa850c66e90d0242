"""What of an API's answer reaches the caller."""

import base64
import json
from typing import Any

import jsonschema_rs
import pytest
from aiohttp import web
from openapi_ground import Answering, Api, operation, target, texts

from freehold.adapters.web.client import CheckedWeb
from freehold.ports.targets import TargetFailed

SECRET = "sEcReT-of-the-redirect"
THING = {"type": "object", "required": ["id"], "properties": {
    "id": {"type": "integer"}, "kind": {"type": "string", "enum": ["a", "b"]}}}  # fmt: skip


def answering(body: bytes | str, media: str | None, status: int = 200, **headers: str) -> Answering:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=status, headers=headers)
        if media is not None:
            response.headers["Content-Type"] = media
        await response.prepare(request)
        await response.write(body if isinstance(body, bytes) else body.encode())
        return response

    return answer


def described(url: str, schema: Any) -> Any:
    content = {"application/json": {"schema": schema}}
    return operation(url, responses={"200": {"description": "", "content": content}})


async def test_json_is_text_and_structured_where_there_is_an_output_schema(
    upstream: Api, outside: CheckedWeb
) -> None:
    api = await target(outside, described(upstream.url, THING))
    assert api.tools["do"].document["outputSchema"]["type"] == "object"
    upstream.answer = answering('{"id": 7, "more": [1]}', "application/json; charset=utf-8")
    result = await api.call("do")
    assert json.loads(texts(result)) == {"id": 7, "more": [1]}
    assert result["structuredContent"] == {"id": 7, "more": [1]}
    assert "isError" not in result


async def test_json_stays_text_where_there_is_none(upstream: Api, outside: CheckedWeb) -> None:
    api = await target(outside, described(upstream.url, {"type": "array"}))
    assert "outputSchema" not in api.tools["do"].document
    upstream.answer = answering("[1]", "application/json")
    assert await api.call("do") == {"content": [{"type": "text", "text": "[1]"}]}


@pytest.mark.parametrize(
    ("body", "structured"),
    [
        ('{"id": null, "kind": "new"}', {"id": None, "kind": "new"}),
        ("{}", {}),
        ("[1]", {"result": [1]}),
        ("not json", {}),
        ("", {}),
    ],
)
async def test_an_answer_unlike_its_document_does_not_fail_at_a_client_that_checks(
    upstream: Api, outside: CheckedWeb, body: str, structured: Any
) -> None:
    api = await target(outside, described(upstream.url, THING))
    upstream.answer = answering(body, "application/json")
    result = await api.call("do")
    assert result["structuredContent"] == structured
    jsonschema_rs.validate(api.tools["do"].document["outputSchema"], structured)


@pytest.mark.parametrize("status", [400, 401, 404, 422, 429, 500, 503])
async def test_a_refusal_is_an_error_with_its_status_and_its_words(
    upstream: Api, outside: CheckedWeb, status: int
) -> None:
    upstream.answer = answering('{"message": "no such colour"}', "application/json", status)
    result = await (await target(outside, described(upstream.url, THING))).call("do")
    assert result["isError"]
    assert str(status) in texts(result)
    assert "no such colour" in texts(result)
    assert "structuredContent" not in result
    assert result["_meta"] == {"freehold/upstream-status": status}


async def test_a_long_refusal_is_cut_and_a_binary_one_left_out(
    upstream: Api, outside: CheckedWeb
) -> None:
    api = await target(outside, operation(upstream.url))
    upstream.answer = answering("x" * 100_000, "text/html", 500)
    assert 4000 < len(texts(await api.call("do"))) < 4200
    upstream.answer = answering(b"\0\1", "application/octet-stream", 500)
    assert texts(await api.call("do")) == "The API answered 500 Internal Server Error."


async def test_a_refusal_says_when_to_come_back(upstream: Api, outside: CheckedWeb) -> None:
    headers = {"Retry-After": "17"}
    upstream.answer = answering("", None, 429, **headers)
    assert "after 17" in texts(await (await target(outside, operation(upstream.url))).call("do"))


async def test_a_redirect_is_said_and_not_followed(upstream: Api, outside: CheckedWeb) -> None:
    headers = {"Location": f"https://elsewhere.example/login?token={SECRET}"}
    upstream.answer = answering("", None, 302, **headers)
    result = await (await target(outside, operation(upstream.url))).call("do")
    assert result["isError"]
    assert "https://elsewhere.example/login" in texts(result)
    assert SECRET not in json.dumps(result)
    assert len(upstream.seen) == 1


async def test_nothing_is_said_to_be_nothing(upstream: Api, outside: CheckedWeb) -> None:
    async def nothing(request: web.Request) -> web.StreamResponse:
        return web.Response(status=204)

    upstream.answer = nothing
    result = await (await target(outside, operation(upstream.url))).call("do")
    assert texts(result) == "Done: 204 No Content, without content."


@pytest.mark.parametrize(("media", "kind"), [("image/png", "image"), ("audio/mpeg", "audio")])
async def test_images_and_sounds_are_content_of_their_own(
    upstream: Api, outside: CheckedWeb, media: str, kind: str
) -> None:
    upstream.answer = answering(b"\x89\0\xff", media)
    result = await (await target(outside, operation(upstream.url))).call("do")
    data = base64.b64encode(b"\x89\0\xff").decode()
    assert result["content"] == [{"type": kind, "mimeType": media, "data": data}]


async def test_other_bytes_are_an_embedded_resource(upstream: Api, outside: CheckedWeb) -> None:
    headers = {"Content-Disposition": 'attachment; filename="../r 1.pdf"'}
    upstream.answer = answering(b"%PDF\0", "application/pdf", **headers)
    (content,) = (await (await target(outside, operation(upstream.url))).call("do"))["content"]
    assert content["type"] == "resource"
    assert content["resource"] == {
        "uri": "attachment:.._r_1.pdf",
        "mimeType": "application/pdf",
        "blob": base64.b64encode(b"%PDF\0").decode(),
    }


@pytest.mark.parametrize(
    ("body", "media", "expected"),
    [
        ("é".encode("latin-1"), "text/plain; charset=ISO-8859-1", "é"),
        ("é".encode(), "text/plain; charset=punycode", "é"),
        (b"a\xff", "text/csv", "a�"),
        (b"<a/>", "application/atom+xml", "<a/>"),
        (b'{"a":1}', "application/problem+json", '{"a":1}'),
    ],
)
async def test_text_is_read_in_its_charset(
    upstream: Api, outside: CheckedWeb, body: bytes, media: str, expected: str
) -> None:
    upstream.answer = answering(body, media)
    assert texts(await (await target(outside, operation(upstream.url))).call("do")) == expected


async def test_a_long_text_is_cut_and_says_so(upstream: Api, outside: CheckedWeb) -> None:
    upstream.answer = answering("x" * 5000, "text/plain")
    api = await target(outside, operation(upstream.url), answer_bytes_max=1000)
    result = await api.call("do")
    assert result["content"][0]["text"] == "x" * 1000
    assert "1000 bytes" in result["content"][1]["text"]


@pytest.mark.parametrize("media", ["application/json", "image/png"])
async def test_what_cannot_be_cut_is_an_error_that_says_what_to_do(
    upstream: Api, outside: CheckedWeb, media: str
) -> None:
    upstream.answer = answering("[" * 5000, media)
    document = described(upstream.url, THING)
    result = await (await target(outside, document, answer_bytes_max=1000)).call("do")
    assert result["isError"]
    assert "Ask for less" in texts(result)


@pytest.mark.parametrize(
    ("method", "times"), [("get", 2), ("put", 2), ("delete", 2), ("post", 1), ("patch", 1)]
)
async def test_a_connection_that_breaks_is_tried_again_by_idempotent_methods_alone(
    upstream: Api, outside: CheckedWeb, method: str, times: int
) -> None:
    async def drop(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    upstream.answer = drop
    api = await target(outside, operation(upstream.url, method))
    with pytest.raises(TargetFailed):
        await api.call("do")
    assert len(upstream.seen) == times
