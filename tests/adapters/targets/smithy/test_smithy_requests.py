"""Requests where botocore is no judge: what must not go out, and what is filled in."""

import base64
import hashlib
import uuid
import zlib
from random import Random
from typing import Any

import msgspec
import pytest
from smithy_models import member, operation, structure, text, trait

from freehold.adapters.targets.sending import HttpCall
from freehold.adapters.targets.smithy import convert
from freehold.adapters.targets.smithy import plan as plans
from freehold.adapters.targets.smithy.request import request
from freehold.adapters.targets.smithy.scalars import BadArgument

Json = dict[str, Any]
ENDPOINT = "https://pets.example.com"


def plan(shapes: Json, name: str = "Get", **more: Any) -> plans.Plan:
    described = convert(text(shapes, **more))
    found = {d.name: d for d in described.definitions}
    assert name in found, described.problems
    return plans.read(found[name].plan)


def sent(
    members: Json, arguments: Json, *, http: tuple[str, str] = ("POST", "/get"), **more: Any
) -> HttpCall:
    shapes = {
        "GetInput": structure(**members),
        "Get": operation("GetInput", http=http),
        "Map": {"type": "map", "key": member("String"), "value": member("String")},
        "Lists": {"type": "map", "key": member("String"), "value": member("Strings")},
        "Strings": {"type": "list", "member": member("String")},
        **more.pop("shapes", {}),
    }
    return request(plan(shapes, **more), arguments, ENDPOINT)


LABELLED = {
    "id": member("String", required=True, httpLabel=True),
    "rest": member("String", required=True, httpLabel=True),
}


def test_labels_cannot_leave_their_segment() -> None:
    call = sent(
        LABELLED, {"id": "a/../b?c#d%2e", "rest": "x y/z&ü"}, http=("GET", "/v/{id}/{rest+}")
    )
    assert call.url == f"{ENDPOINT}/v/a%2F..%2Fb%3Fc%23d%252e/x%20y/z%26%C3%BC"


@pytest.mark.parametrize(
    ("id_", "rest"),
    [("..", "a"), (".", "a"), ("", "a"), ("a", "b/../../c"), ("a", "./b"), ("a", ""), ("a", "..")],
)
def test_labels_are_neither_empty_nor_a_way_up(id_: str, rest: str) -> None:
    with pytest.raises(BadArgument, match="path"):
        sent(LABELLED, {"id": id_, "rest": rest}, http=("GET", "/v/{id}/{rest+}"))


def test_a_label_that_is_missing_is_named() -> None:
    with pytest.raises(BadArgument, match="rest"):
        sent(LABELLED, {"id": "a"}, http=("GET", "/v/{id}/{rest+}"))


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\x00b"])
def test_headers_take_no_line_breaks(value: str) -> None:
    with pytest.raises(BadArgument, match="header"):
        sent({"h": member("String", httpHeader="X-H")}, {"h": value})


@pytest.mark.parametrize("name", ["Host", "authorization", "Content-Length", "a b", "", "x:y"])
def test_a_prefix_lets_nobody_choose_the_headers_that_are_ours(name: str) -> None:
    with pytest.raises(BadArgument, match="header"):
        sent({"h": member("Map", httpPrefixHeaders="")}, {"h": {name: "x"}})


def test_a_header_that_says_who_asks_is_not_an_argument() -> None:
    shapes = {
        "GetInput": structure(who=member("String", httpHeader="Authorization")),
        "Get": operation("GetInput", http=("GET", "/get")),
    }
    described = convert(text(shapes))
    assert [(p.skipped, "authorization" in p.why) for p in described.problems] == [(False, True)]
    call = request(plans.read(described.definitions[0].plan), {"who": "me"}, ENDPOINT)
    assert "authorization" not in call.headers


def test_lists_of_times_and_texts_in_headers_can_be_told_apart() -> None:
    call = sent(
        {"times": member("Times", httpHeader="X-T"), "texts": member("Strings", httpHeader="X-S")},
        {"times": ["2026-01-31T12:00:00+01:00", 0], "texts": ['a,"b"', "c", ""]},
        shapes={"Times": {"type": "list", "member": member("Timestamp")}},
    )
    assert call.headers["x-t"] == "Sat, 31 Jan 2026 11:00:00 GMT, Thu, 01 Jan 1970 00:00:00 GMT"
    assert call.headers["x-s"] == '"a,\\"b\\"", c, ""'


def test_text_with_a_media_type_is_base64_in_a_header() -> None:
    call = sent(
        {"h": member("Json", httpHeader="X-Json")},
        {"h": '{"a":\n1}'},
        shapes={"Json": {"type": "string", "traits": trait("mediaType", "application/json")}},
    )
    assert base64.b64decode(call.headers["x-json"]).decode() == '{"a":\n1}'


def test_parameters_of_the_query_never_replace_those_of_the_model() -> None:
    call = sent(
        {"all": member("Lists", httpQueryParams=True), "a": member("String", httpQuery="a")},
        {"a": "1", "all": {"a": ["2"], "fixed": ["3"], "b&c": ["4", "5"]}},
        http=("GET", "/get?fixed=0"),
    )
    assert call.url == f"{ENDPOINT}/get?fixed=0&a=1&b%26c=4&b%26c=5"


def test_a_token_is_made_where_none_is_given() -> None:
    members = {"token": member("String", idempotencyToken=True)}
    made = [msgspec.json.decode(sent(members, {}).body or b"")["token"] for _ in range(2)]
    assert made[0] != made[1]
    assert uuid.UUID(made[0])
    assert msgspec.json.decode(sent(members, {"token": "mine"}).body or b"") == {"token": "mine"}


@pytest.mark.parametrize("value", ["a.b", "a/b", "", "-a", "x" * 64, 5, "evil.example.com/"])
def test_a_part_of_the_host_is_one_label_of_it(value: Any) -> None:
    shapes = {
        "GetInput": structure(account=member("String", required=True, hostLabel=True)),
        "Get": operation("GetInput", http=("POST", "/g"), endpoint={"hostPrefix": "{account}.x."}),
    }
    found = plan(shapes)
    assert request(found, {"account": "a1"}, ENDPOINT).url == "https://a1.x.pets.example.com/g"
    with pytest.raises(BadArgument, match="host"):
        request(found, {"account": value}, ENDPOINT)
    assert request(found, {"account": "a1"}, ENDPOINT, host_prefixed=False).url.startswith(ENDPOINT)


def test_checksums_are_made_where_a_service_wants_them() -> None:
    shapes = {
        "GetInput": structure(body=member("Blob", httpPayload=True),
                              algorithm=member("String", httpHeader="x-algorithm")),
        "Md5": operation("GetInput", http=("PUT", "/a"), httpChecksumRequired=True),
        "Get": operation("GetInput", http=("PUT", "/b")),
    }  # fmt: skip
    shapes["Get"]["traits"]["aws.protocols#httpChecksum"] = {
        "requestChecksumRequired": True, "requestAlgorithmMember": "algorithm",
    }  # fmt: skip
    content = base64.b64encode(b"hello").decode()
    md5 = request(plan(shapes, "Md5"), {"body": content}, ENDPOINT).headers
    assert md5["content-md5"] == base64.b64encode(hashlib.md5(b"hello").digest()).decode()
    found = plan(shapes)
    crc = base64.b64encode(zlib.crc32(b"hello").to_bytes(4, "big")).decode()
    assert request(found, {"body": content}, ENDPOINT).headers["x-amz-checksum-crc32"] == crc
    sha = request(found, {"body": content, "algorithm": "SHA256"}, ENDPOINT).headers
    assert (
        sha["x-amz-checksum-sha256"] == base64.b64encode(hashlib.sha256(b"hello").digest()).decode()
    )
    with pytest.raises(BadArgument, match="CRC32, SHA1 or SHA256"):
        request(found, {"body": content, "algorithm": "CRC64NVME"}, ENDPOINT)


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        ("Timestamp", "yesterday", "2026-01-31T12:00:00Z"),
        ("Timestamp", 1e30, "2026-01-31T12:00:00Z"),
        ("Timestamp", True, "2026-01-31T12:00:00Z"),
        ("Inner", 5, "object"),
    ],
)
def test_an_argument_that_is_none_is_named_with_what_it_should_be(
    kind: str, value: Any, said: str
) -> None:
    with pytest.raises(BadArgument, match=f"input.it.*{said}"):
        sent(
            {"it": member(kind)},
            {"it": value},
            shapes={"Inner": structure(when=member("Timestamp"))},
        )


@pytest.mark.parametrize(
    ("moment", "seconds"),
    [
        ("1970-01-01T00:00:01Z", 1),
        ("2026-01-31T12:00:00.25Z", 1769860800.25),
        ("2026-01-31T13:00:00+01:00", 1769860800),
        ("2026-01-31T12:00:00", 1769860800),
        (1769860800, 1769860800),
        ("1900-01-01T00:00:00Z", -2208988800),
    ],
)
def test_times_are_taken_as_people_and_programs_write_them(moment: Any, seconds: float) -> None:
    call = sent({"when": member("Timestamp")}, {"when": moment})
    assert msgspec.json.decode(call.body or b"") == {"when": seconds}


def test_big_numbers_keep_all_their_digits() -> None:
    big = 123456789012345678901234567890
    call = sent({"big": member("BigInteger")}, {"big": big})
    assert call.body == b'{"big":123456789012345678901234567890}'


def test_xml_is_escaped_and_carries_its_namespaces() -> None:
    shapes = {
        "GetInput": {
            **structure(
                name=member("String", xmlAttribute=True),
                value=member("String", xmlName="V"),
                many=member("Strings", xmlFlattened=True),
            ),
            "traits": {**trait("xmlName", "Root"), **trait("xmlNamespace", {"uri": 'urn:"a"'})},
        },
    }
    call = sent({}, {"name": '"\n<', "value": "<&>\r", "many": ["a", "b"]}, shapes=shapes,
                protocol="aws.protocols#restXml")  # fmt: skip
    assert call.body == (
        b'<Root xmlns="urn:&quot;a&quot;" name="&quot;&#xA;&lt;"><V>&lt;&amp;&gt;&#xD;</V>'
        b"<many>a</many><many>b</many></Root>"
    )


PROTOCOLS = ("restJson1", "restXml", "awsJson1_0", "awsJson1_1", "awsQuery", "ec2Query")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_argument_whatever_it_is_makes_more_of_it_than_a_refusal(protocol: str) -> None:
    random = Random(protocol)
    shapes = {
        "GetInput": structure(
            **LABELLED,
            q=member("Strings", httpQuery="q"),
            h=member("Timestamp", httpHeader="h"),
            p=member("Map", httpPrefixHeaders="x-"),
            deep=member("Deep"),
            token=member("String", idempotencyToken=True),
        ),
        "Deep": structure(when=member("Timestamp"), deep=member("Deep"), list=member("Deeps"),
                          map=member("ByName"), blob=member("Blob")),
        "Deeps": {"type": "list", "member": member("Deep")},
        "ByName": {"type": "map", "key": member("String"), "value": member("Deep")},
        "Map": {"type": "map", "key": member("String"), "value": member("String")},
        "Strings": {"type": "list", "member": member("String")},
        "Get": operation("GetInput", http=("POST", "/{id}/{rest+}")),
    }  # fmt: skip
    found = plan(shapes, protocol=f"aws.protocols#{protocol}")
    made = refused = 0

    def junk(depth: int) -> Any:
        simple = [None, True, 3, 1.5, "a", "é\n", "2026-01-01", "..", [], {}]
        if depth > 4 or random.random() < 0.4:
            return random.choice(simple)
        if random.random() < 0.3:
            return [junk(depth + 1) for _ in range(2)]
        names = ("when", "deep", "list", "map", "blob", "other")
        return {n: junk(depth + 1) for n in random.sample(names, 3)}

    for _ in range(300):
        arguments = {n: junk(0) for n in ("id", "rest", "q", "h", "p", "deep", "token", "extra")}
        if random.random() < 0.7:
            arguments |= {"id": "a", "rest": "b", "h": None, "p": {}, "q": [], "token": "t"}
            arguments["deep"] = {"list": [{}], "map": {"a": {"deep": {}}}, "other": junk(0)}
        try:
            call = request(found, arguments, ENDPOINT)
        except BadArgument:
            refused += 1
        else:
            made += 1
            assert call.url.startswith(ENDPOINT + "/")
            assert not any("\n" in value for value in call.headers.values())
    assert made > 10
    assert refused > 10
