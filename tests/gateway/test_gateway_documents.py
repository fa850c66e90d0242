"""An OpenAPI document with each hard feature, out of a tenant's own bucket, at a real server."""

import base64
import json
import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import pytest
from aiohttp import web
from starlette.datastructures import Headers
from starlette.formparsers import MultiPartParser

from gateway_ground import Gateway
from gateway_upstreams import Loop, Seen, Upstream
from running import RunningPlatform

DOCUMENT = """
openapi: 3.1.0
info: {title: Shop, version: "1"}
servers:
  - url: "URL/{stage}/v{version}"
    variables:
      stage: {default: live}
      version: {default: "2", enum: ["1", "2"]}
paths:
  /items/{id}:
    parameters:
      - name: id
        in: path
        required: true
        style: label
        schema: {type: array, items: {type: integer}}
    get:
      operationId: getItem
      parameters:
        - name: filter
          in: query
          style: deepObject
          schema: {type: object, additionalProperties: {type: string}}
        - name: tags
          in: query
          style: pipeDelimited
          explode: false
          schema: {type: array, items: {type: string}}
        - {name: X-Trace, in: header, schema: {type: string}}
        - {name: visit, in: cookie, schema: {type: string}}
      responses: {"200": {description: ok}}
  /trees:
    post:
      operationId: plantTree
      requestBody:
        required: true
        content: {application/json: {schema: {$ref: "#/components/schemas/Tree"}}}
      responses: {"200": {description: ok}}
  /outside:
    post:
      operationId: outside
      requestBody:
        content: {application/json: {schema: {$ref: "URL/shared.yaml#/Address"}}}
      responses: {"200": {description: ok}}
  /forms:
    post:
      operationId: sendForm
      requestBody:
        content:
          application/x-www-form-urlencoded:
            schema:
              type: object
              properties: {a: {type: string}, b: {type: array, items: {type: integer}}}
      responses: {"200": {description: ok}}
  /files:
    post:
      operationId: sendFile
      requestBody:
        content:
          multipart/form-data:
            schema:
              type: object
              required: [file]
              properties:
                note: {type: string}
                file: {type: string, format: binary}
      responses: {"200": {description: ok}}
  /picture:
    get:
      operationId: picture
      responses: {"200": {description: ok, content: {image/png: {}}}}
  /missing:
    get:
      operationId: missing
      responses: {"404": {description: gone}}
components:
  schemas:
    Tree:
      type: object
      required: [name]
      properties:
        name: {type: string}
        children: {type: array, items: {$ref: "#/components/schemas/Tree"}}
"""
SHARED = "Address: {type: object, required: [city], properties: {city: {type: string}}}\n"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(16)


class Shop(NamedTuple):
    gateway: Gateway
    upstream: Upstream

    def call(self, tool: str, **arguments: Any) -> Any:
        return self.gateway.call(f"shop___{tool}", arguments)

    def sent(self, tool: str, arguments: dict[str, Any]) -> Seen:
        """The one request that a good call makes."""
        before = self.upstream.count()
        answer = self.gateway.call(f"shop___{tool}", arguments)
        assert "isError" not in answer.result, answer.text
        [seen] = self.upstream.seen[before:]
        return seen


def answer(seen: Seen) -> Any:
    if seen.path == "/shared.yaml":
        return web.Response(text=SHARED, content_type="application/yaml")
    if seen.path.endswith("/picture"):
        return web.Response(body=PNG, content_type="image/png")
    if seen.path.endswith("/missing"):
        return web.json_response({"error": "there is none", "more": "x" * 20_000}, status=404)
    return {"path": seen.path}


@pytest.fixture(scope="module")
def shop(platform: RunningPlatform, served: Loop) -> Iterator[Shop]:
    with Upstream(served, answer) as upstream:
        s3, key = platform.client("s3"), f"shop-{uuid.uuid4().hex}.yaml"
        s3.create_bucket(Bucket="tests")
        body = DOCUMENT.replace("URL", upstream.url).encode()
        s3.put_object(Bucket="tests", Key=key, Body=body)
        gateway = Gateway(platform)
        gateway.add("shop", {"mcp": {"openApiSchema": {"s3": {"uri": f"s3://tests/{key}"}}}})
        yield Shop(gateway, upstream)
        gateway.delete()


def test_every_operation_is_a_tool(shop: Shop) -> None:
    names = ["getItem", "plantTree", "outside", "sendForm", "sendFile", "picture", "missing"]
    assert shop.gateway.tools() == [f"shop___{name}" for name in names]


def test_parameters_in_all_places(shop: Shop) -> None:
    seen = shop.sent(
        "getItem",
        {"id": [3, 4], "filter": {"a": "x y", "b": "&"}, "tags": ["p", "q"], "X-Trace": "t",
         "visit": "v"},
    )  # fmt: skip
    assert seen.path == "/live/v2/items/.3,4"
    assert seen.query == {"filter[a]": "x y", "filter[b]": "&", "tags": "p|q"}
    assert seen.headers["x-trace"] == "t"
    assert seen.headers["cookie"] == "visit=v"


def test_a_schema_that_meets_itself(shop: Shop) -> None:
    tree = {"name": "oak", "children": [{"name": "acorn", "children": []}]}
    assert shop.sent("plantTree", tree).json == tree
    before = shop.upstream.count()
    refused = shop.call("plantTree", name="oak", children=[{"children": []}])
    assert refused.result["isError"]
    assert "name" in refused.text
    assert shop.upstream.count() == before


def test_a_schema_of_another_document(shop: Shop) -> None:
    assert shop.sent("outside", {"city": "Ys"}).json == {"city": "Ys"}
    assert shop.call("outside", city=7).result["isError"]


def test_a_form(shop: Shop) -> None:
    seen = shop.sent("sendForm", {"a": "ü &", "b": [1, 2]})
    assert seen.headers["content-type"] == "application/x-www-form-urlencoded"
    assert parse_qsl(seen.body.decode()) == [("a", "ü &"), ("b", "1"), ("b", "2")]


async def test_a_file(shop: Shop) -> None:
    content = base64.b64encode(PNG).decode()
    seen = shop.sent("sendFile", {"note": "n", "file": content})

    async def body() -> Any:
        yield seen.body

    form = await MultiPartParser(Headers(seen.headers), body()).parse()
    assert form["note"] == "n"
    assert await form["file"].read() == PNG
    await form.close()


def test_a_picture_comes_back(shop: Shop) -> None:
    [content] = shop.call("picture").result["content"]
    assert (content["type"], content["mimeType"]) == ("image", "image/png")
    assert base64.b64decode(content["data"]) == PNG


def test_a_refusal_of_the_server_is_told_with_its_status(shop: Shop) -> None:
    answer = shop.call("missing")
    assert answer.result["isError"]
    assert answer.result["_meta"]["freehold/upstream-status"] == 404
    assert "there is none" in answer.text
    assert len(answer.text) < 6000


def test_what_can_be_no_tool_is_named_and_the_rest_works(
    gateway: Gateway, upstream: Upstream
) -> None:
    document = {
        "openapi": "3.0.3", "info": {"title": "t", "version": "1"},
        "servers": [{"url": upstream.url}],
        "paths": {
            "/good": {"get": {"operationId": "good", "responses": {}}},
            "/bad": {"$ref": "#/components/pathItems/absent"},
            "/poor": {
                "post": {
                    "operationId": "poor",
                    "requestBody": {"content": {"application/json": {
                        "schema": {"$ref": "#/components/schemas/Absent"},
                    }}},
                    "responses": {},
                }
            },
        },
    }  # fmt: skip
    schema = {"openApiSchema": {"inlinePayload": json.dumps(document)}}
    target = gateway.add("t", {"mcp": schema})
    assert gateway.tools() == ["t___good", "t___poor"]
    assert "isError" not in gateway.call("t___good").result
    problems = gateway.own(f"/targets/{target.id}/problems")["problems"]
    bad, poor = sorted(problems, key=lambda problem: not problem["skipped"])
    assert (bad["skipped"], poor["skipped"]) == (True, False)
    assert "bad" in bad["where"]
    assert "absent" in bad["why"]
    assert "poor" in poor["where"]
    assert "Absent" in poor["why"]


def test_a_document_that_is_none_is_said_to_be(gateway: Gateway) -> None:
    schema = {"openApiSchema": {"inlinePayload": "openapi: [3"}}
    target = gateway.begin_target("t", {"mcp": schema}).settle()
    assert target["status"] == "FAILED"
    assert target["statusReasons"]
