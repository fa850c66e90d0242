"""Documents: what is read, what is followed, and what is said of the rest."""

import json
from typing import Any

import jsonschema_rs
import pytest
from openapi_ground import Api, errand, operation, place, target, texts

from freehold.adapters.targets.openapi.client import OpenApiTargets
from freehold.adapters.targets.openapi.conversion import convert
from freehold.adapters.targets.openapi.references import CannotFetch
from freehold.adapters.web.client import CheckedWeb
from freehold.kernel.errors import ValidationFailed
from freehold.ports.targets import Credential, Described, TargetFailed

YAML_30 = """
openapi: 3.0.3
info: {title: Places, version: 1.10}
servers:
- url: https://api.example.com/v1
x-common: &common
  limit: {name: limit, in: query, schema: {type: integer, minimum: 0, exclusiveMinimum: true}}
paths:
  /countries/{code}:
    get:
      operationId: "get country!"
      summary: One country
      description: One country, by its code.
      parameters:
      - {name: code, in: path, required: true, schema: {type: string, enum: [no, se, on]}}
      - {name: since, in: query, schema: {type: string, example: 2020-01-01}}
      - *undefined-below
      responses:
        200: {description: ok}
"""


def one(document: Any, **more: Any) -> Any:
    """The only tool's document."""
    text = document if isinstance(document, str) else json.dumps(document)
    described = convert(text, **more)
    (definition,) = described.definitions
    return definition.document


def taking(schema: Any, **components: Any) -> Any:
    """The schema of the argument `a`."""
    parameter = {"name": "a", "in": "query", "schema": schema}
    document = operation("https://api.example.com", parameters=[parameter])
    document["components"] = {"schemas": components}
    return document


def argument(document: Any, version: str = "3.1.0") -> Any:
    document["openapi"] = version
    return one(document)["inputSchema"]["properties"]["a"]


# Reading


def test_yaml_means_what_version_1_2_says() -> None:
    found = one(
        YAML_30.replace("      - *undefined-below\n", "      - *limit\n").replace(
            "  limit: {", "  limit: &limit {"
        )
    )
    properties = found["inputSchema"]["properties"]
    assert properties["code"]["enum"] == ["no", "se", "on"]
    assert properties["since"]["examples"] == ["2020-01-01"]
    assert properties["limit"] == {"type": "integer", "exclusiveMinimum": 0}
    assert (found["name"], found["title"]) == ("get_country", "One country")
    assert found["description"] == "One country, by its code."


def test_merge_keys_of_yaml_are_merged() -> None:
    text = """
    openapi: 3.0.0
    servers: [{url: 'https://a.example'}]
    x-a: &a {type: integer, minimum: 1}
    paths:
      /x: {get: {parameters: [{name: a, in: query, schema: {<<: *a, minimum: 2}}]}}
    """
    assert one(text)["inputSchema"]["properties"]["a"] == {"type": "integer", "minimum": 2}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not an object"),
        ("[1]", "not an object"),
        ("hello", "not an object"),
        ('{"openapi": ', "not JSON"),
        ("a: [1", "not YAML"),
        ("a: *b", r"\*b names nothing"),
        (YAML_30, "names nothing"),
        ("a: !!python/object/apply:os.system [x]", "tags"),
        ("a: !include x.yaml", "tags"),
        ("a: &a [*a]", "names nothing"),
        ("a: 1\n---\nb: 2", "more than one"),
        ("[" * 5000, "deeper"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "deeper"),
        ("{}", "no OpenAPI document"),
        ('{"openapi": "4.0.0"}', "4.0.0 is not known"),
        ('{"swagger": "1.2"}', "1.2 is not known"),
        ('{"openapi": "3.1.0", "paths": []}', '"paths"'),
        ("x" * (17 << 20), "16 MiB"),
    ],
)
def test_what_is_no_document_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(ValidationFailed, match=why):
        convert(text)


def test_an_alias_bomb_is_refused_before_it_is_walked() -> None:
    lines = ["openapi: 3.0.0", "a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    with pytest.raises(ValidationFailed, match="values"):
        convert("\n".join(lines))


# Problems of single operations


def broken(**paths: Any) -> Described:
    document = operation("https://api.example.com")
    document["paths"] |= {f"/{name}": item for name, item in paths.items()}
    return convert(json.dumps(document))


@pytest.mark.parametrize(
    ("item", "why"),
    [
        ({"get": "text"}, "not an object"),
        ({"get": {"parameters": [{"in": "query", "schema": {}}]}}, "no name"),
        ({"get": {"parameters": [{"name": "a", "in": "body"}]}}, "'body'"),
        ({"get": {"parameters": [{"$ref": "#/components/parameters/None"}]}}, "leads to nothing"),
        ({"post": {"requestBody": {"$ref": "#/nowhere"}}}, "leads to nothing"),
        ({"post": {"requestBody": {"$ref": "#/paths/~1bad/post/requestBody"}}}, "itself"),
        ({"post": {"requestBody": {"content": {"multipart/mixed": {}}}}}, "multipart/mixed"),
        ({"$ref": "https://other.example/path.yaml"}, "not fetched"),
        ({"$ref": "path.yaml"}, "relative"),
        ({"get": {"servers": [{"url": "ftp://files.example"}]}}, "ftp://files.example"),
        ({"get": {"servers": ["text"]}}, "not an object"),
        ({"trace": {}}, "TRACE"),
        ({"get": {"parameters": [7]}}, "parameter"),
        ({"post": {"requestBody": {"content": {"application/json": 7}}}}, None),
    ],
)
def test_what_is_wrong_with_one_operation_costs_that_one_alone(item: Any, why: str | None) -> None:
    described = broken(bad=item)
    assert "do" in {d.name for d in described.definitions}
    if why is not None:
        (problem,) = [p for p in described.problems if p.skipped]
        assert why in problem.why
        assert problem.where.endswith("/bad")


def test_a_style_that_is_none_is_named_and_the_usual_one_taken() -> None:
    parameter = {"name": "a", "in": "query", "style": "matrix", "schema": {}}
    described = convert(json.dumps(operation("https://a.example", parameters=[parameter])))
    assert described.definitions[0].plan["parameters"][0]["style"] == "form"
    (problem,) = described.problems
    assert "'matrix'" in problem.why
    assert not problem.skipped


def test_whole_sections_may_stand_in_files_of_their_own() -> None:
    files = {
        "https://docs.example/paths.yaml": """
/x:
  get:
    parameters: [{name: a, in: query, schema: {$ref: 'root.json#/components/schemas/S'}}]
""",
        "https://docs.example/schemas.yaml": "S: {type: integer}",
    }  # fmt: skip
    document = {
        "openapi": "3.0.0", "servers": [{"url": "https://a.example"}],
        "paths": {"$ref": "paths.yaml"}, "components": {"schemas": {"$ref": "schemas.yaml"}},
    }  # fmt: skip
    text = json.dumps(document)
    found = one(text, url="https://docs.example/root.json", fetch=files.__getitem__)
    assert found["inputSchema"]["properties"]["a"] == {"type": "integer"}


def test_a_schema_that_leads_to_nothing_takes_anything_and_is_named() -> None:
    document = taking({"type": "object", "properties": {"x": {"$ref": "#/nowhere"}, "y": {}}})
    described = convert(json.dumps(document))
    (definition,) = described.definitions
    assert definition.document["inputSchema"]["properties"]["a"]["properties"]["x"] == {}
    (problem,) = described.problems
    assert not problem.skipped
    assert "#/nowhere" in problem.why


def test_names_are_made_valid_and_stay_apart() -> None:
    document = operation("https://api.example.com")
    document["paths"] = {
        "/a/{id}": {"get": {}, "post": {"operationId": "same"}, "put": {"operationId": "same"}},
        "/b": {"get": {"operationId": "ns/do it é"}, "put": {"operationId": "x" * 300}},
    }
    described = convert(json.dumps(document))
    names = [d.name for d in described.definitions]
    assert names == ["get_a_id", "same", "same_2", "ns_do_it", "x" * 128]
    assert [p.skipped for p in described.problems] == [False]


def test_the_method_says_what_a_call_may_do() -> None:
    document = operation("https://api.example.com")
    document["paths"]["/m"] = {
        m: {"operationId": m} for m in ("get", "put", "post", "delete", "patch")
    }
    hints = {d.name: d.document["annotations"] for d in convert(json.dumps(document)).definitions}
    assert hints["get"]["readOnlyHint"]
    assert not hints["get"]["destructiveHint"]
    assert not hints["post"]["readOnlyHint"]
    assert "destructiveHint" not in hints["post"]
    assert not hints["post"]["idempotentHint"]
    assert hints["put"] == hints["delete"] == {
        "readOnlyHint": False, "destructiveHint": True, "idempotentHint": True,
        "openWorldHint": True,
    }  # fmt: skip
    assert not hints["patch"]["idempotentHint"]


def test_more_operations_than_a_target_may_have_are_named() -> None:
    document = operation("https://api.example.com")
    document["paths"] = {f"/p{n}": {"get": {"operationId": f"o{n}"}} for n in range(12)}
    described = convert(json.dumps(document), tools_max=10)
    assert len(described.definitions) == 10
    assert [p.where for p in described.problems] == ["GET /p10", "GET /p11"]


# Schemas


@pytest.mark.parametrize(
    ("version", "schema", "expected"),
    [
        ("3.0.0", {"type": "string", "nullable": True}, {"type": ["string", "null"]}),
        ("3.0.0", {"type": "string", "nullable": True, "enum": ["a"]},
         {"type": ["string", "null"], "enum": ["a", None]}),
        ("3.0.0", {"$ref": "#/components/schemas/S", "nullable": True, "description": "d"},
         {"anyOf": [{"type": "string"}, {"type": "null"}], "description": "d"}),
        ("3.0.0", {"allOf": [{"$ref": "#/components/schemas/S"}], "description": "d"},
         {"type": "string", "description": "d"}),
        ("3.0.0", {"type": "integer", "maximum": 5, "exclusiveMaximum": True},
         {"type": "integer", "exclusiveMaximum": 5}),
        ("3.0.0", {"type": "string", "format": "byte"},
         {"type": "string", "contentEncoding": "base64"}),
        ("3.0.0", {"type": "string", "enum": [1, 2, True]},
         {"type": "string", "enum": ["1", "2", "true"]}),
        ("3.1.0", {"type": ["string", "null"], "const": "x", "examples": ["x"]}, None),
        ("3.1.0", {"type": "array", "prefixItems": [{"type": "string"}], "items": False}, None),
        ("3.1.0", {"if": {"required": ["a"]}, "then": {"required": ["b"]}}, None),
        ("3.1.0", {"type": "object", "patternProperties": {"^x-": {"type": "string"}},
                   "unevaluatedProperties": False}, None),
        ("3.1.0", {"$ref": "#/components/schemas/S", "maxLength": 3},
         {"allOf": [{"type": "string"}], "maxLength": 3}),
        ("3.1.0", {"oneOf": [{"type": "integer"}, {"type": "number"}]},
         {"anyOf": [{"type": "integer"}, {"type": "number"}]}),
        ("3.1.0", {"type": "string", "pattern": "(?<=a)b"}, None),
        ("3.1.0", {"type": "string", "pattern": "[unclosed", "minLength": -1, "enum": "x",
                   "required": True, "properties": 3, "xml": {}, "x-more": 1}, {"type": "string"}),
        ("3.1.0", {"type": "anything"}, {}),
        ("3.1.0", True, True),
    ],
)  # fmt: skip
def test_a_schema_of_each_version_becomes_json_schema(
    version: str, schema: Any, expected: Any
) -> None:
    found = argument(taking(schema, S={"type": "string"}), version)
    assert found == (schema if expected is None else expected)


def test_members_are_left_out_where_they_do_not_go() -> None:
    thing = {
        "type": "object", "required": ["id", "name", "password"],
        "properties": {
            "id": {"type": "integer", "readOnly": True}, "name": {"type": "string"},
            "password": {"type": "string", "writeOnly": True},
            "made": {"$ref": "#/components/schemas/Made"},
        },
    }  # fmt: skip
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}}
    document = operation(
        "https://api.example.com", "put", requestBody={"required": True, "content": content},
        responses={"200": {"content": content}},
    )  # fmt: skip
    document["components"] = {
        "schemas": {"Thing": thing, "Made": {"type": "string", "readOnly": True}}
    }
    found = one(document)
    assert list(found["inputSchema"]["properties"]) == ["name", "password"]
    assert found["inputSchema"]["required"] == ["name", "password"]
    assert list(found["outputSchema"]["properties"]) == ["id", "name", "made"]


def test_a_circular_schema_is_a_definition_that_refers_to_itself() -> None:
    tree = {"type": "object", "properties": {
        "name": {"type": "string"},
        "children": {"type": "array", "items": {"$ref": "#/components/schemas/Tree"}},
        "leaf": {"$ref": "#/components/schemas/Leaf"}}}  # fmt: skip
    leaf = {"type": "object", "properties": {"of": {"$ref": "#/components/schemas/Tree"}}}
    document = taking({"$ref": "#/components/schemas/Tree"}, Tree=tree, Leaf=leaf)
    schema = one(document)["inputSchema"]
    good = {"a": {"name": "r", "children": [{"name": "c", "leaf": {"of": {"name": "x"}}}]}}
    jsonschema_rs.validate(schema, good)
    bad = {"a": {"children": [{"leaf": {"of": {"name": 7}}}]}}
    with pytest.raises(jsonschema_rs.ValidationError):
        jsonschema_rs.validate(schema, bad)


def test_a_schema_that_is_only_itself_takes_anything_and_is_named() -> None:
    document = taking({"$ref": "#/components/schemas/A"}, A={"$ref": "#/components/schemas/A"})
    described = convert(json.dumps(document))
    assert described.definitions[0].document["inputSchema"]["properties"]["a"] == {}
    assert "itself" in described.problems[0].why


def test_a_discriminator_says_which_alternative_each_value_chooses() -> None:
    schema = {
        "oneOf": [{"$ref": "#/components/schemas/Cat"}, {"$ref": "#/components/schemas/Dog"}],
        "discriminator": {"propertyName": "kind", "mapping": {
            "cat": "#/components/schemas/Cat", "dog": "Dog"}},
    }  # fmt: skip
    animal = {"type": "object", "properties": {"kind": {"type": "string"}}}
    cat = {**animal, "required": ["lives"]}
    document = taking(schema, Cat=cat, Dog=animal)
    found = one(document)["inputSchema"]
    jsonschema_rs.validate(found, {"a": {"kind": "dog"}})
    jsonschema_rs.validate(found, {"a": {"kind": "cat", "lives": 9}})
    for bad in ({"kind": "cat"}, {"kind": "cow"}, {}):
        with pytest.raises(jsonschema_rs.ValidationError):
            jsonschema_rs.validate(found, {"a": bad})


def test_a_huge_schema_is_cut_where_it_is_deepest_and_the_tool_stays() -> None:
    wide = {
        f"S{n}": {"type": "object", "description": "x" * 2000, "properties": {
            "next": {"$ref": f"#/components/schemas/S{n + 1}"}}}
        for n in range(100)
    }  # fmt: skip
    document = taking({"$ref": "#/components/schemas/S0"}, **wide, S100={"type": "string"})
    described = convert(json.dumps(document))
    (definition,) = described.definitions
    assert len(json.dumps(definition.document["inputSchema"])) < 150_000
    (problem,) = described.problems
    assert not problem.skipped
    assert "KiB" in problem.why


# Swagger 2.0

SWAGGER = """
swagger: "2.0"
info: {title: Old, version: "1"}
host: HOST
basePath: /base/
schemes: [http]
consumes: [application/json]
produces: [application/json]
securityDefinitions:
  key: {type: apiKey, in: header, name: X-Key}
  sso:
    {type: oauth2, flow: accessCode, tokenUrl: "https://a/t", scopes: {r: reads}}
  plain: {type: basic}
parameters:
  shared: {name: page, in: query, type: integer, exclusiveMinimum: true, minimum: 0}
paths:
  /things/{id}:
    parameters:
    - {name: id, in: path, required: true, type: string}
    - {name: X-Key, in: header, type: string, required: true}
    get:
      operationId: list
      parameters:
      - {$ref: "#/parameters/shared"}
      - {name: csv, in: query, type: array, items: {type: string}}
      - {name: multi, in: query, type: array, items: {type: string}, collectionFormat: multi}
      - {name: pipes, in: query, type: array, items: {type: string}, collectionFormat: pipes}
      - {name: tsv, in: query, type: array, items: {type: string}, collectionFormat: tsv}
      - {name: X-L, in: header, type: array, items: {type: string}}
      responses:
        200: {description: ok, schema: {$ref: "#/definitions/Thing"}}
    put:
      operationId: change
      parameters:
      - {name: thing, in: body, required: true, schema: {$ref: "#/definitions/Thing"}}
      responses: {204: {description: done}}
    post:
      operationId: upload
      consumes: [multipart/form-data]
      parameters:
      - {name: file, in: formData, type: file, required: true, description: The scan.}
      - {name: note, in: formData, type: string}
      - {name: ids, in: formData, type: array, items: {type: integer}}
      responses: {204: {description: done}}
    patch:
      operationId: form
      consumes: [application/x-www-form-urlencoded]
      parameters:
      - {name: ids, in: formData, type: array, items: {type: integer}}
      - {name: more, in: formData, type: array, items: {type: integer}, collectionFormat: multi}
      responses: {204: {description: done}}
definitions:
  Thing:
    type: object
    required: [name]
    properties: {name: {type: string, x-nullable: true}, id: {type: integer, readOnly: true}}
"""


async def test_swagger_2_is_called_like_the_others(upstream: Api, outside: CheckedWeb) -> None:
    api = await target(outside, SWAGGER.replace("HOST", f"127.0.0.1:{upstream.port}"))
    assert list(api.tools) == ["list", "change", "upload", "form"]
    assert api.arguments_of("list")["page"] == {"type": "integer", "exclusiveMinimum": 0}
    assert "X-Key" not in api.arguments_of("list")
    assert api.tools["list"].document["outputSchema"]["type"] == "object"
    some = ["a", "b,|c"]
    await api.call("list", {"id": "x y", "page": 2, "csv": some, "multi": some, "pipes": some,
                            "tsv": some, "X-L": some})  # fmt: skip
    seen = upstream.last
    assert seen.path == "/base/things/x%20y"
    assert seen.query == [("page", "2"), ("csv", "a,b,|c"), ("multi", "a"), ("multi", "b,|c"),
                          ("pipes", "a|b,|c"), ("tsv", "a\tb,|c")]  # fmt: skip
    assert seen.headers["x-l"] == "a,b,|c"
    await api.call("change", {"id": "1", "name": None})
    assert upstream.last.json() == {"name": None}
    await api.call("upload", {"id": "1", "file": "AAEC", "note": "n", "ids": [1, 2]})
    parts = await upstream.last.parts()
    file: Any = parts["file"]
    assert (await file.read(), parts["note"]) == (b"\0\1\2", "n")
    await api.call("form", {"id": "1", "ids": [1, 2], "more": [3, 4]})
    assert upstream.last.form == [("ids", "1,2"), ("more", "3"), ("more", "4")]
    schemes = {s["key"]: s for s in api.described.server["securitySchemes"]}
    assert schemes["plain"]["scheme"] == "basic"
    assert schemes["sso"]["flows"]["authorizationCode"]["tokenUrl"] == "https://a/t"


# Other documents


async def test_references_to_other_documents_are_followed(
    upstream: Api, outside: CheckedWeb
) -> None:
    upstream.documents = {
        "/spec/parts.yaml": """
limit: {name: limit, in: query, schema: {$ref: 'deep/schemas.json#/Limit'}}
item:
  get: {operationId: other, parameters: [{$ref: '#/limit'}]}
""",
        "/spec/deep/schemas.json": json.dumps(
            {
                "Limit": {"type": "integer", "maximum": 50},
                "Node": {"type": "object", "properties": {
                    "up": {"$ref": "#/Node"}, "back": {"$ref": "../parts.yaml#/limit/schema"}}},
            }
        ),
    }  # fmt: skip
    at = f"{upstream.url}/spec"
    document = operation(
        upstream.url,
        parameters=[
            {"$ref": f"{at}/parts.yaml#/limit"},
            {"name": "node", "in": "query", "schema": {"$ref": f"{at}/deep/schemas.json#/Node"}},
        ],
    )
    document["paths"]["/other"] = {"$ref": f"{at}/parts.yaml#/item"}
    api = await target(outside, document)
    assert api.described.problems == ()
    assert api.arguments_of("other")["limit"] == {"type": "integer", "maximum": 50}
    assert api.arguments_of("do")["limit"] == {"type": "integer", "maximum": 50}
    schema = api.tools["do"].document["inputSchema"]
    assert schema["$defs"]["Node"]["properties"]["back"] == {"type": "integer", "maximum": 50}
    await api.call("other", {"limit": 5})
    assert (upstream.last.path, upstream.last.query) == ("/other", [("limit", "5")])


async def test_other_documents_are_asked_for_by_the_rules_of_the_way_out(
    upstream: Api, outside: CheckedWeb
) -> None:
    document = operation(
        upstream.url,
        parameters=[
            {"name": "a", "in": "query", "schema": {"$ref": "http://169.254.169.254/latest#/x"}},
            {"name": "b", "in": "query", "schema": {"$ref": "file:///etc/passwd#/x"}},
            {"name": "c", "in": "query", "schema": {"$ref": f"{upstream.url}/missing.json#/x"}},
        ],
    )
    upstream.answer = None
    described = await OpenApiTargets(outside).describe(place(document), errand())
    assert [d.name for d in described.definitions] == ["do"]
    whys = "\n".join(p.why for p in described.problems)
    assert "169.254.169.254" in whys
    assert "file: addresses are not followed" in whys
    assert "leads to nothing" in whys


async def test_the_credential_of_the_target_does_not_go_to_other_documents(
    upstream: Api, outside: CheckedWeb
) -> None:
    document = operation(upstream.url, parameters=[{"$ref": f"{upstream.url}/elsewhere#/p"}])
    secret = Credential(headers={"authorization": "Bearer secret"}, query={"k": "secret"})
    await OpenApiTargets(outside).describe(place(document), errand(credential=secret))
    assert upstream.last.path == "/elsewhere"
    assert "authorization" not in upstream.last.headers
    assert upstream.last.query == []


def test_a_chain_of_documents_without_end_is_cut() -> None:
    asked: list[str] = []

    def fetch(url: str) -> str:
        asked.append(url)
        number = int(url.rsplit("/", 1)[1]) + 1
        return json.dumps({"x": {"$ref": f"https://loop.example/{number}#/x"}})

    document = taking({"$ref": "https://loop.example/0#/x"})
    described = convert(json.dumps(document), fetch=fetch)
    assert len(described.definitions) == 1
    assert len(asked) <= 61
    assert described.problems


def test_without_a_platform_documents_come_from_whoever_calls() -> None:
    files = {"file:///spec/b.yaml": "S: {type: string}"}

    def fetch(url: str) -> str:
        if url not in files:
            raise CannotFetch("there is no such file")
        return files[url]

    document = taking({"type": "object", "properties": {
        "good": {"$ref": "b.yaml#/S"}, "bad": {"$ref": "c.yaml#/S"}}})  # fmt: skip
    described = convert(json.dumps(document), fetch=fetch, url="file:///spec/a.yaml")
    schema = described.definitions[0].document["inputSchema"]["properties"]["a"]
    assert schema["properties"] == {"good": {"type": "string"}, "bad": {}}
    assert "there is no such file" in described.problems[0].why


def test_relative_servers_stand_where_the_document_does() -> None:
    document = operation("../v2")
    described = convert(json.dumps(document), url="https://api.example.com/docs/v1/openapi.json")
    assert described.definitions[0].plan["server"] == "https://api.example.com/docs/v2"


async def test_a_target_without_document_is_refused(outside: CheckedWeb) -> None:
    with pytest.raises(ValidationFailed, match="inlinePayload"):
        await OpenApiTargets(outside).describe(place(" "), errand())


async def test_a_plan_survives_being_stored(upstream: Api, outside: CheckedWeb) -> None:
    document = operation(
        upstream.url, "post", "/x/{id}",
        parameters=[{"name": "id", "in": "path", "required": True, "style": "matrix"}],
        requestBody={"content": {"application/json": {"schema": {"type": "array"}}}},
    )  # fmt: skip
    api = await target(outside, document)
    definition = api.tools["do"]
    again = type(definition)(
        name=definition.name, document=definition.document,
        plan=json.loads(json.dumps(definition.plan)),
    )  # fmt: skip
    await OpenApiTargets(outside).call(place(""), again, {"id": 5, "body": [1]}, errand())
    assert (upstream.last.path, upstream.last.json()) == ("/x/;id=5", [1])


async def test_an_unreachable_api_is_said_by_its_failure(outside: CheckedWeb) -> None:
    api = await target(outside, operation("https://127.0.0.1:1"))
    with pytest.raises(TargetFailed) as raised:
        await api.call("do")
    assert raised.value.retriable


async def test_half_of_a_surrogate_pair_is_said_to_the_caller(
    upstream: Api, outside: CheckedWeb
) -> None:
    parameter = {"name": "q", "in": "query", "schema": {"type": "string"}}
    api = await target(outside, operation(upstream.url, parameters=[parameter]))
    result = await api.call("do", {"q": "\ud800"})
    assert result["isError"]
    assert "surrogate" in texts(result)
