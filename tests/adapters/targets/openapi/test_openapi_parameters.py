"""Parameters of every style, as the API's own side reads them."""

from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openapi_ground import Api, operation, target, texts

from freehold.adapters.targets.openapi import styles
from freehold.adapters.targets.openapi.plan import ParameterPlan
from freehold.adapters.targets.openapi.styles import BadArgument
from freehold.adapters.web.client import CheckedWeb

COLOURS, POINT = ["blue", "black", "a b,c"], {"R": 100, "G": "x,y"}


def parameter(place: str, style: str, explode: bool, **more: Any) -> dict[str, Any]:
    return {"name": "color", "in": place, "required": place == "path", "style": style,
            "explode": explode, "schema": {}, **more}  # fmt: skip


@pytest.mark.parametrize(
    ("style", "explode", "value", "expected"),
    [
        ("simple", False, "b/ue?#%", "b%2Fue%3F%23%25"),
        ("simple", False, COLOURS, "blue,black,a%20b%2Cc"),
        ("simple", False, POINT, "R,100,G,x%2Cy"),
        ("simple", True, POINT, "R=100,G=x%2Cy"),
        ("label", False, "blue", ".blue"),
        ("label", False, COLOURS, ".blue,black,a%20b%2Cc"),
        ("label", True, COLOURS, ".blue.black.a%20b%2Cc"),
        ("label", True, POINT, ".R=100.G=x%2Cy"),
        ("matrix", False, "blue", ";color=blue"),
        ("matrix", False, COLOURS, ";color=blue,black,a%20b%2Cc"),
        ("matrix", True, COLOURS, ";color=blue;color=black;color=a%20b%2Cc"),
        ("matrix", False, POINT, ";color=R,100,G,x%2Cy"),
        ("matrix", True, POINT, ";R=100;G=x%2Cy"),
        ("simple", False, True, "true"),
        ("simple", False, 1.5, "1.5"),
    ],
)
async def test_a_path_parameter_arrives_in_its_style(
    upstream: Api, outside: CheckedWeb, style: str, explode: bool, value: Any, expected: str
) -> None:
    document = operation(
        upstream.url, path="/in/{color}/x", parameters=[parameter("path", style, explode)]
    )
    await (await target(outside, document)).call("do", {"color": value})
    assert upstream.last.path == f"/in/{expected}/x"


@pytest.mark.parametrize(
    ("style", "explode", "value", "expected"),
    [
        ("form", True, COLOURS, [("color", "blue"), ("color", "black"), ("color", "a b,c")]),
        ("form", True, POINT, [("R", "100"), ("G", "x,y")]),
        ("form", False, "", [("color", "")]),
        ("form", True, "a&b=c#d+e f", [("color", "a&b=c#d+e f")]),
        ("deepObject", True, POINT, [("color[R]", "100"), ("color[G]", "x,y")]),
        (
            "deepObject", True, {"a": {"b": [1, 2]}, "c": [{"d": 3}]},
            [("color[a][b][]", "1"), ("color[a][b][]", "2"), ("color[c][0][d]", "3")],
        ),
        ("spaceDelimited", False, ["a", "b"], [("color", "a b")]),
        ("pipeDelimited", False, ["a", "b"], [("color", "a|b")]),
        ("pipeDelimited", True, ["a", "b"], [("color", "a"), ("color", "b")]),
        ("form", True, [{"deep": [1]}], [("color", '{"deep":[1]}')]),
    ],
)  # fmt: skip
async def test_a_query_parameter_arrives_in_its_style(
    upstream: Api, outside: CheckedWeb, style: str, explode: bool, value: Any, expected: Any
) -> None:
    document = operation(upstream.url, parameters=[parameter("query", style, explode)])
    await (await target(outside, document)).call("do", {"color": value})
    assert upstream.last.query == expected


async def test_a_comma_within_a_value_is_not_one_between_two(
    upstream: Api, outside: CheckedWeb
) -> None:
    document = operation(upstream.url, parameters=[parameter("query", "form", False)])
    await (await target(outside, document)).call("do", {"color": COLOURS})
    assert upstream.last.raw_query == "color=blue,black,a%20b%2Cc"


async def test_reserved_characters_stay_where_they_are_allowed_but_begin_no_parameter(
    upstream: Api, outside: CheckedWeb
) -> None:
    reserved = parameter("query", "form", True, allowReserved=True)
    document = operation(upstream.url, parameters=[reserved])
    await (await target(outside, document)).call("do", {"color": "/a/b:c?d=e&admin=1#x;y"})
    assert upstream.last.raw_query.startswith("color=/a/b:c?d=e%26admin=1%23x%3B")
    assert upstream.last.query == [("color", "/a/b:c?d=e&admin=1#x;y")]


async def test_headers_and_cookies_arrive_in_their_styles(
    upstream: Api, outside: CheckedWeb
) -> None:
    document = operation(
        upstream.url,
        parameters=[
            {"name": "X-List", "in": "header", "schema": {"type": "array"}},
            {"name": "X-Exploded", "in": "header", "explode": True, "schema": {"type": "object"}},
            {"name": "X-Flat", "in": "header", "schema": {"type": "object"}},
            {"name": "flavour", "in": "cookie", "schema": {"type": "string"}},
            {"name": "sizes", "in": "cookie", "explode": False, "schema": {"type": "array"}},
        ],
    )
    await (await target(outside, document)).call(
        "do",
        {
            "X-List": [1, 2], "X-Exploded": {"a": 1, "b": 2}, "X-Flat": {"a": 1},
            "flavour": "oat; admin=1", "sizes": ["s", "m"],
        },
    )  # fmt: skip
    seen = upstream.last
    assert (seen.headers["x-list"], seen.headers["x-exploded"]) == ("1,2", "a=1,b=2")
    assert seen.headers["x-flat"] == "a,1"
    assert seen.cookies == {"flavour": "oat; admin=1", "sizes": "s,m"}


async def test_a_parameter_described_by_its_content_is_a_document(
    upstream: Api, outside: CheckedWeb
) -> None:
    content = {"application/json": {"schema": {"type": "object"}}}
    document = operation(
        upstream.url, path="/of/{where}",
        parameters=[
            {"name": "filter", "in": "query", "content": content},
            {"name": "where", "in": "path", "required": True, "content": content},
        ],
    )  # fmt: skip
    value = {"a": [1, "x&y"], "b": None}
    await (await target(outside, document)).call("do", {"filter": value, "where": {"k": 1}})
    assert upstream.last.query == [("filter", '{"a":[1,"x&y"],"b":null}')]
    assert upstream.last.segments == ["of", '{"k":1}']


@pytest.mark.parametrize(
    "value",
    ["..", ".", "../admin", "a/../b", "..\\x", "%2e%2e", "%2e%2e%2fadmin", "..;x", "%252e%252e",
     "", "a\0b", "%00"],
)  # fmt: skip
async def test_no_argument_leads_up_the_path(
    upstream: Api, outside: CheckedWeb, value: str
) -> None:
    document = operation(
        upstream.url, path="/own/{color}", parameters=[parameter("path", "simple", False)]
    )
    result = await (await target(outside, document)).call("do", {"color": value})
    assert result["isError"]
    assert '"color"' in texts(result)
    assert upstream.seen == []


@pytest.mark.parametrize("value", ["a\r\nX-Admin: 1", "a\nb", "\0", "a\x7f"])
async def test_no_argument_begins_a_header(upstream: Api, outside: CheckedWeb, value: str) -> None:
    header = {"name": "X-Note", "in": "header", "schema": {"type": "string"}}
    document = operation(upstream.url, parameters=[header])
    result = await (await target(outside, document)).call("do", {"X-Note": value})
    assert result["isError"]
    assert '"X-Note"' in texts(result)
    assert upstream.seen == []


async def test_names_that_collide_say_where_they_go(upstream: Api, outside: CheckedWeb) -> None:
    document = operation(
        upstream.url, "post", "/of/{id}",
        parameters=[
            {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}},
            {"name": "id", "in": "query", "schema": {"type": "string"}},
            {"name": "filter[name]", "in": "query", "schema": {"type": "string"}},
            {"name": "id", "in": "header", "schema": {"type": "string"}},
        ],
        requestBody={
            "required": True,
            "content": {"application/json": {"schema": {
                "type": "object", "properties": {"id": {"type": "integer"}}}}},
        },
    )  # fmt: skip
    api = await target(outside, document)
    assert list(api.arguments_of("do")) == ["id", "id_query", "filter_name", "id_header", "body"]
    await api.call("do", {"id": "p", "id_query": "q", "filter_name": "f", "id_header": "h",
                          "body": {"id": 7}})  # fmt: skip
    seen = upstream.last
    assert seen.segments == ["of", "p"]
    assert seen.query == [("id", "q"), ("filter[name]", "f")]
    assert (seen.headers["id"], seen.json()) == ("h", {"id": 7})


async def test_credentials_and_what_http_says_itself_are_no_arguments(
    upstream: Api, outside: CheckedWeb
) -> None:
    names = ["Authorization", "X-Api-Key", "Host", "Content-Length", "Accept", "X-Plain"]
    document = operation(
        upstream.url,
        parameters=[
            *({"name": n, "in": "header", "required": True, "schema": {}} for n in names),
            {"name": "key", "in": "query", "schema": {}},
            {"name": "sid", "in": "cookie", "schema": {}},
        ],
    )
    document["components"] = {
        "securitySchemes": {
            "a": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            "b": {"type": "apiKey", "in": "query", "name": "key"},
            "c": {"type": "apiKey", "in": "cookie", "name": "sid"},
            "d": {"type": "oauth2", "flows": {"clientCredentials": {
                "tokenUrl": "https://id.example/token", "scopes": {"read": "reads"}}}},
        }
    }  # fmt: skip
    document["security"] = [{"a": []}, {"b": [], "d": ["read"]}]
    api = await target(outside, document)
    assert list(api.arguments_of("do")) == ["X-Plain"]
    assert api.described.server["security"] == [["a"], ["b", "d"]]
    schemes = {s["key"]: s for s in api.described.server["securitySchemes"]}
    assert schemes["a"]["name"] == "x-api-key"
    assert schemes["d"]["flows"]["clientCredentials"]["scopes"] == ["read"]


# Round trips: what a server splits and decodes is what was given.

TEXTS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=12)
NAMES = st.text("abcXYZ_-. [](),=&;|", min_size=1, max_size=6)


def plan(place: Any, style: str, explode: bool) -> ParameterPlan:
    return ParameterPlan(argument="p", name="p", place=place, style=style, explode=explode)


@given(
    st.lists(TEXTS, min_size=1, max_size=4),
    st.sampled_from(
        [
            ("form", ","),
            ("spaceDelimited", "%20"),
            ("pipeDelimited", "%7C"),
            ("tabDelimited", "%09"),
        ]
    ),
)
def test_a_list_joined_in_a_query_comes_apart_again(
    items: list[str], style: tuple[str, str]
) -> None:
    (pair,) = styles.in_query(plan("query", style[0], False), items)
    name, _, value = pair.partition("=")
    assert name == "p"
    delimiter = style[1]
    if delimiter == "%20" and any(" " in i for i in items):
        return  # the style itself cannot tell these apart
    if delimiter == "%7C" and any("|" in i for i in items):
        return
    if delimiter == "%09" and any("\t" in i for i in items):
        return
    assert [unquote(part) for part in value.split(delimiter)] == items


@given(st.dictionaries(NAMES, TEXTS, min_size=1, max_size=4), st.booleans())
def test_an_object_in_a_path_comes_apart_again_or_is_refused(
    value: dict[str, str], explode: bool
) -> None:
    try:
        made = styles.in_path(plan("path", "simple", explode), value)
    except BadArgument:
        return
    if explode:
        found = dict(tuple(map(unquote, part.split("=", 1))) for part in made.split(","))
    else:
        flat = [unquote(part) for part in made.split(",")]
        found = dict(zip(flat[::2], flat[1::2], strict=True))
    assert found == value


@given(
    st.recursive(
        TEXTS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
        max_leaves=6,
    ),
    st.sampled_from(["simple", "label", "matrix"]),
    st.booleans(),
)
def test_whatever_stands_in_a_path_adds_no_segment(value: Any, style: str, explode: bool) -> None:
    try:
        made = styles.in_path(plan("path", style, explode), value)
    except BadArgument:
        return
    assert made.isascii()
    assert not set(made) & set("/?#\\ ")
    assert unquote(made) not in (".", "..")
