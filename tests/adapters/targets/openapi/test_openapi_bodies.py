"""Bodies and servers, as the API's own side reads them."""

import base64
from typing import Any

import pytest
from openapi_ground import Api, operation, target, texts
from starlette.datastructures import UploadFile

from freehold.adapters.web.client import CheckedWeb

FILE = bytes(range(256))


def posting(url: str, media: str, schema: Any, *, required: bool = True, **more: Any) -> Any:
    body = {"required": required, "content": {media: {"schema": schema, **more}}}
    return operation(url, "post", requestBody=body)


def thing(**properties: Any) -> Any:
    return {"type": "object", "properties": properties}


@pytest.mark.parametrize("media", ["application/json", "application/vnd.shop+json", "*/*"])
async def test_members_of_a_plain_object_are_arguments(
    upstream: Api, outside: CheckedWeb, media: str
) -> None:
    schema = {**thing(name={"type": "string"}, tags={"type": "array"}), "required": ["name"]}
    api = await target(outside, posting(upstream.url, media, schema))
    assert api.tools["do"].document["inputSchema"]["required"] == ["name"]
    await api.call("do", {"name": "é", "tags": [1, None]})
    assert upstream.last.json() == {"name": "é", "tags": [1, None]}
    expected = "application/json" if media == "*/*" else media
    assert upstream.last.headers["content-type"] == expected


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "array", "items": {"type": "integer"}}, [1, 2]),
        ({"oneOf": [thing(a={}), thing(b={})]}, {"b": 1}),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, {"anything": 3}),
        ({"type": ["object", "null"], "properties": {"a": {}}}, None),
        ({}, "text"),
    ],
)
async def test_any_other_json_is_one_argument(
    upstream: Api, outside: CheckedWeb, schema: Any, value: Any
) -> None:
    api = await target(outside, posting(upstream.url, "application/json", schema))
    assert list(api.arguments_of("do")) == ["body"]
    await api.call("do", {"body": value})
    assert upstream.last.json() == value


async def test_a_body_that_is_not_required_may_be_left_out(
    upstream: Api, outside: CheckedWeb
) -> None:
    schema = {**thing(a={"type": "string"}), "required": ["a"]}
    document = posting(upstream.url, "application/json", schema, required=False)
    api = await target(outside, document)
    assert "required" not in api.tools["do"].document["inputSchema"]
    await api.call("do")
    assert upstream.last.body == b""
    assert "content-type" not in upstream.last.headers
    await api.call("do", {"a": "x"})
    assert upstream.last.json() == {"a": "x"}


async def test_a_required_body_without_members_given_is_an_empty_object(
    upstream: Api, outside: CheckedWeb
) -> None:
    api = await target(outside, posting(upstream.url, "application/json", thing(a={})))
    await api.call("do")
    assert upstream.last.json() == {}


async def test_a_form_is_encoded_as_its_document_says(upstream: Api, outside: CheckedWeb) -> None:
    schema = thing(
        plain={"type": "string"}, several={"type": "array"}, joined={"type": "array"},
        deep={"type": "object"}, document={"type": "object"}, asJson={"type": "array"},
    )  # fmt: skip
    encoding = {
        "joined": {"style": "form", "explode": False},
        "deep": {"style": "deepObject", "explode": True},
        "asJson": {"contentType": "application/json"},
    }
    media = "application/x-www-form-urlencoded"
    api = await target(outside, posting(upstream.url, media, schema, encoding=encoding))
    await api.call("do", {
        "plain": "a b&c=d+e%", "several": ["x", "y"], "joined": ["p", "q"],
        "deep": {"k": {"n": 1}, "l": ["m"]}, "document": {"z": True}, "asJson": [1, 2],
    })  # fmt: skip
    assert upstream.last.form == [
        ("plain", "a b&c=d+e%"), ("several", "x"), ("several", "y"), ("joined", "p,q"),
        ("deep[k][n]", "1"), ("deep[l][]", "m"), ("document", '{"z":true}'), ("asJson", "[1,2]"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "file",
    [
        {"type": "string", "format": "binary"},
        {"type": "string", "contentMediaType": "application/octet-stream"},
    ],
)
async def test_parts_arrive_with_their_types_and_names(
    upstream: Api, outside: CheckedWeb, file: Any
) -> None:
    schema = thing(
        note={"type": "string"}, meta={"type": "object"}, scan=file, plain=file,
        pages={"type": "array", "items": file}, tags={"type": "array", "items": {}},
    )  # fmt: skip
    encoding = {"scan": {"contentType": "image/png, image/jpeg"}, "pages": {"contentType": "*/*"}}
    document = posting(upstream.url, "multipart/form-data", schema, encoding=encoding)
    api = await target(outside, document)
    assert api.arguments_of("do")["scan"]["contentEncoding"] == "base64"
    assert api.arguments_of("do")["pages"]["items"]["contentEncoding"] == "base64"
    data = base64.b64encode(FILE).decode()
    await api.call("do", {
        "note": "é\r\n--x", "meta": {"a": 1}, "scan": data, "plain": data, "pages": [data, data],
        "tags": ["t", "u"], "scan_filename": 'a "b"\r\nX-Evil: 1.png',
    })  # fmt: skip
    parts = await upstream.last.parts()
    assert parts["note"] == "é\r\n--x"
    assert parts.getlist("tags") == ["t", "u"]
    assert parts["meta"] == '{"a":1}'
    scan, plain = parts["scan"], parts["plain"]
    assert isinstance(scan, UploadFile)
    assert isinstance(plain, UploadFile)
    assert (scan.content_type, await scan.read()) == ("image/png", FILE)
    assert scan.filename is not None
    assert "\n" not in scan.filename
    assert set(scan.headers) == {"content-disposition", "content-type"}
    assert (plain.content_type, plain.filename) == (
        "application/octet-stream" if "format" in file else file["contentMediaType"],
        "plain",
    )
    pages = parts.getlist("pages")
    assert [await p.read() for p in pages if isinstance(p, UploadFile)] == [FILE, FILE]


async def test_a_file_that_is_not_base64_is_said_to_the_caller(
    upstream: Api, outside: CheckedWeb
) -> None:
    document = posting(
        upstream.url, "multipart/form-data", thing(scan={"type": "string", "format": "binary"})
    )
    result = await (await target(outside, document)).call("do", {"scan": "not base64!"})
    assert result["isError"]
    assert '"scan"' in texts(result)
    assert upstream.seen == []


@pytest.mark.parametrize("media", ["application/octet-stream", "image/png", "application/*"])
async def test_bytes_are_sent_as_they_are(upstream: Api, outside: CheckedWeb, media: str) -> None:
    schema = {"type": "string", "format": "binary"}
    api = await target(outside, posting(upstream.url, media, schema))
    await api.call("do", {"body": base64.b64encode(FILE).decode()})
    assert upstream.last.body == FILE
    expected = "application/octet-stream" if "*" in media else media
    assert upstream.last.headers["content-type"] == expected


@pytest.mark.parametrize("media", ["text/plain", "application/xml", "application/yaml"])
async def test_text_is_sent_as_it_is(upstream: Api, outside: CheckedWeb, media: str) -> None:
    api = await target(outside, posting(upstream.url, media, {"type": "string"}))
    await api.call("do", {"body": "<é/>"})
    assert (upstream.last.body, upstream.last.headers["content-type"]) == ("<é/>".encode(), media)


async def test_xml_of_an_object_is_written_by_the_caller_and_named(
    upstream: Api, outside: CheckedWeb
) -> None:
    api = await target(outside, posting(upstream.url, "application/xml", thing(a={})))
    assert api.arguments_of("do")["body"]["type"] == "string"
    (problem,) = api.described.problems
    assert (problem.where, problem.skipped) == ("POST /things", False)
    assert "application/xml" in problem.why
    await api.call("do", {"body": "<thing><a>1</a></thing>"})
    assert upstream.last.body == b"<thing><a>1</a></thing>"


async def test_json_is_chosen_where_there_is_a_choice(upstream: Api, outside: CheckedWeb) -> None:
    document = operation(
        upstream.url, "post",
        requestBody={"required": True, "content": {
            "application/xml": {"schema": thing(a={})},
            "application/x-www-form-urlencoded": {"schema": thing(a={})},
            "application/json": {"schema": thing(a={})},
        }},
    )  # fmt: skip
    await (await target(outside, document)).call("do", {"a": 1})
    assert upstream.last.json() == {"a": 1}


async def test_members_put_together_by_all_of_are_arguments_too(
    upstream: Api, outside: CheckedWeb
) -> None:
    schema = {"allOf": [{"$ref": "#/components/schemas/Base"}, thing(b={"type": "integer"})]}
    document = posting(upstream.url, "application/json", schema)
    document["components"] = {"schemas": {
        "Base": {**thing(a={"type": "string"}, id={"readOnly": True}), "required": ["a", "id"]}
    }}  # fmt: skip
    api = await target(outside, document)
    assert list(api.arguments_of("do")) == ["a", "b"]
    assert api.tools["do"].document["inputSchema"]["required"] == ["a"]
    await api.call("do", {"a": "x", "b": 1})
    assert upstream.last.json() == {"a": "x", "b": 1}


# Servers


def served(url: str, **variables: Any) -> Any:
    document = operation("https://unused.example")
    document["servers"] = [{"url": url, "variables": variables}]
    return document


async def test_variables_with_choices_are_arguments_and_others_their_default(
    upstream: Api, outside: CheckedWeb
) -> None:
    document = served(
        f"http://{{host}}:{upstream.port}/{{base}}/{{version}}",
        host={"default": "nowhere.example", "enum": ["nowhere.example", "127.0.0.1"]},
        base={"default": "api"}, version={"default": "v2", "enum": ["v1", "v2"]},
    )  # fmt: skip
    api = await target(outside, document)
    assert list(api.arguments_of("do")) == ["host", "version"]
    await api.call("do", {"host": "127.0.0.1"})
    assert upstream.last.path == "/api/v2/things"
    refused = await api.call("do", {"host": "evil.example"})
    assert refused["isError"]
    assert "nowhere.example, 127.0.0.1" in texts(refused)
    assert len(upstream.seen) == 1


async def test_a_variable_without_value_is_a_problem(outside: CheckedWeb) -> None:
    api = await target(outside, served("https://{tenant}.example.com"))
    assert api.tools == {}
    assert '"tenant"' in api.described.problems[0].why


async def test_the_server_next_to_the_operation_counts(upstream: Api, outside: CheckedWeb) -> None:
    document = operation(f"{upstream.url}/top")
    item = document["paths"]["/things"]
    item["put"] = {"operationId": "put", "responses": {}}
    item["servers"] = [{"url": f"{upstream.url}/path"}]
    item["get"]["servers"] = [{"url": f"{upstream.url}/operation/"}]
    document["paths"]["/others"] = {"get": {"operationId": "others", "responses": {}}}
    api = await target(outside, document)
    for tool in ("do", "put", "others"):
        await api.call(tool)
    assert [s.path for s in upstream.seen] == ["/operation/things", "/path/things", "/top/others"]


async def test_a_host_of_other_letters_is_written_in_ascii(outside: CheckedWeb) -> None:
    api = await target(outside, served("https://bücher.example/ä"))
    assert api.tools["do"].plan["server"] == "https://xn--bcher-kva.example/%C3%A4"


async def test_a_server_without_host_is_told_what_to_write(outside: CheckedWeb) -> None:
    api = await target(outside, served("/v1"))
    assert api.tools == {}
    assert "https://" in api.described.problems[0].why
