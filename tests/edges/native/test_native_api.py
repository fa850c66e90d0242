"""Our own API: documented by itself, one shape of error, nothing open but its health."""

import json
import re
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import urllib3

from running import RunningPlatform

pytestmark = pytest.mark.timeout(300)

METHODS = {"get", "put", "post", "patch", "delete"}


@pytest.fixture(scope="module")
def document(platform: RunningPlatform) -> dict[str, Any]:
    return dict(platform.own("/openapi.json", sign=False))


@pytest.fixture(scope="module")
def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def error(answer: urllib3.BaseHTTPResponse) -> dict[str, str]:
    """The one shape, and nothing beside it."""
    assert answer.headers["content-type"] == "application/json"
    said = json.loads(answer.read())
    assert said.keys() == {"error"}
    assert said["error"].keys() == {"code", "message", "requestId"}
    assert uuid.UUID(said["error"]["requestId"])
    assert answer.headers["x-request-id"] == said["error"]["requestId"]
    return dict(said["error"])


# -- the document


def test_the_document_is_an_openapi_document(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1.")
    assert document["info"]["title"] == "Freehold"
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", document["info"]["version"])
    assert all(path.startswith("/freehold/v1/") for path in document["paths"])
    assert all(methods.keys() <= METHODS for methods in document["paths"].values())
    (scheme,) = (name for need in document["security"] for name in need)
    assert scheme in document["components"]["securitySchemes"]


def test_every_operation_is_described(
    document: dict[str, Any], operations: list[tuple[str, str, dict[str, Any]]]
) -> None:
    names = [operation["operationId"] for *_, operation in operations]
    assert len(set(names)) == len(names) >= 8
    for path, _, operation in operations:
        assert operation["summary"]
        in_path = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
        assert in_path == set(re.findall(r"\{(\w+)\}", path))
        for parameter in operation["parameters"]:
            assert parameter["description"], (path, parameter)
            assert parameter["schema"]["type"] in ("string", "integer", "boolean")
            assert parameter["required"] is (parameter["in"] == "path")
        answers = operation["responses"]
        assert set(answers) - {"default"} <= {"200", "201", "202", "204"}
        failure = answers["default"]["content"]["application/json"]["schema"]
        assert resolved(document, failure)["properties"].keys() == {"error"}


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    found = list(references(document))
    assert found
    for reference in found:
        assert {"type", "enum", "anyOf"} & resolved(document, {"$ref": reference}).keys()


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        for name, value in part.items():
            if name == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(part, list):
        for value in part:
            yield from references(value)


def resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in schema:
        return schema
    part: Any = document
    for name in schema["$ref"].removeprefix("#/").split("/"):
        part = part[name]
    return dict(part)


def test_an_answer_has_the_members_that_the_document_says(
    platform: RunningPlatform, document: dict[str, Any]
) -> None:
    for path in ("/health", "/sessions", "/costs", "/keys"):
        answers = document["paths"]["/freehold/v1" + path]["get"]["responses"]
        schema = resolved(document, answers["200"]["content"]["application/json"]["schema"])
        assert platform.own(path).keys() == schema["properties"].keys(), path


# -- who may


def test_health_needs_no_signature(platform: RunningPlatform) -> None:
    health = platform.own("/health", sign=False)
    assert health["status"] == "ok"
    assert health["region"] == platform.region
    assert health["tier"] == platform.facts["tier"]


# What nobody has to sign, since it is how people and others come to a signature of their own.
OPEN = {
    "GetHealth", "GetOpenIdConfiguration", "GetSigningKeys", "RedeemDeviceSignIn",
    "StartDeviceSignIn",
}  # fmt: skip


def test_everything_else_does(
    platform: RunningPlatform, operations: list[tuple[str, str, dict[str, Any]]]
) -> None:
    for path, method, operation in operations:
        below = path.removeprefix("/freehold/v1")
        with platform.open(method.upper(), re.sub(r"\{\w+\}", "x", below), sign=False) as answer:
            if operation.get("security") == []:
                assert operation["operationId"] in OPEN
                assert answer.status in (200, 400), path
            else:
                assert answer.status == 403, path
                assert error(answer)["code"] != "InternalServerException"


def test_a_wrong_signature_is_refused(platform: RunningPlatform) -> None:
    stranger = platform.as_tenant("200000000003")
    stranger.secret_access_key = "not-the-secret"
    with stranger.open("GET", "/sessions") as answer:
        assert answer.status == 403
        assert error(answer)["message"]


# -- what is wrong with a request


@pytest.mark.parametrize(
    ("path", "query", "words"),
    [
        ("/sessions", {"colour": "green"}, "unknown parameter colour"),
        ("/sessions", {"limit": "many"}, "whole number"),
        ("/sessions", {"limit": "0"}, "1 to 1000"),
        ("/sessions", {"limit": "1001"}, "1 to 1000"),
        ("/sessions", {"status": "asleep"}, "live, ended, all"),
        ("/sessions", {"nextToken": "%%%"}, "nextToken"),
        ("/sessions", {"nextToken": "WzFd"}, "nextToken"),
        ("/sessions", {"nextToken": "WyJhIiwiYiJd"}, "nextToken"),
        ("/sessions", {"sessionId": "a\0b"}, "NUL"),
        ("/runtimes/a%00b/logs", {}, "NUL"),
        ("/runtimes/x/logs", {"follow": "yes"}, "true or false"),
        ("/costs", {"by": "moon"}, "agent, session, user"),
        ("/costs", {"since": "yesterday"}, "ISO 8601"),
        ("/costs", {"since": "999999d"}, "since"),
        ("/health", {"verbose": "true"}, "unknown parameter verbose"),
    ],
)
def test_a_parameter_that_cannot_be_is_named(
    platform: RunningPlatform, path: str, query: dict[str, str], words: str
) -> None:
    with platform.open("GET", path, **query) as answer:
        assert answer.status == 400
        said = error(answer)
    assert said["code"] == "ValidationException"
    assert words in said["message"]


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b'{"description": 1}', b"\xff", b'{"description": "' + b"x" * (1 << 20) + b'"}'],
    ids=["broken", "list", "number", "no text", "too large"],
)
def test_a_body_that_cannot_be_is_refused(platform: RunningPlatform, body: bytes) -> None:
    with platform.open("POST", "/keys", body=body) as answer:
        assert answer.status == 400
        said = error(answer)
    assert said["code"] == "ValidationException"
    assert "body" in said["message"]


@pytest.mark.parametrize("path", ["/nothing", "", "/", "/sessions/", "/runtimes/x", "/keys/a/b"])
def test_a_path_that_is_not_there(platform: RunningPlatform, path: str) -> None:
    with platform.open("GET", path) as answer:
        assert answer.status == 404
        said = error(answer)
    assert said["code"] == "ResourceNotFoundException"
    assert "/freehold/v1/openapi.json" in said["message"]


def test_a_method_that_a_path_does_not_have(platform: RunningPlatform) -> None:
    with platform.open("DELETE", "/sessions") as answer:
        assert answer.status == 405
        assert "GET" in answer.headers["allow"]
        assert "GET" in error(answer)["message"]


def test_json_lines_say_what_they_are(platform: RunningPlatform, plain_id: str) -> None:
    with platform.open("GET", f"/runtimes/{plain_id}/logs") as answer:
        assert answer.headers["content-type"] == "application/x-ndjson"
        assert answer.headers["cache-control"] == "no-store"


@pytest.fixture(scope="module")
def plain_id(platform: RunningPlatform) -> Iterator[str]:
    agent = platform.create({"main.py": ""})
    agent.settle()
    yield agent.id
    agent.delete()


# -- beside it


def test_a_browser_is_sent_to_the_console_and_a_program_is_not(platform: RunningPlatform) -> None:
    browser = {"Accept": "text/html,application/xhtml+xml"}
    page = urllib3.request("GET", platform.endpoint + "/", headers=browser, redirect=False)
    assert (page.status, page.headers["location"]) == (303, "/console")
    assert urllib3.request("GET", platform.endpoint + "/").status == 404
