"""Answers of services as results: what they refuse, and what is no answer at all."""

import base64
import json
from random import Random
from typing import Any

import pytest
from botocore.awsrequest import HeadersDict
from botocore.parsers import ResponseParserFactory
from smithy_models import member, operation, structure, text, trait

from freehold.adapters.targets.sending import HttpAnswer
from freehold.adapters.targets.smithy import convert
from freehold.adapters.targets.smithy import plan as plans
from freehold.adapters.targets.smithy.answer import result
from freehold.ports.targets import TargetFailed

Json = dict[str, Any]
PROTOCOLS = ("restJson1", "restXml", "awsJson1_0", "awsJson1_1", "awsQuery", "ec2Query")
BOTOCORES = {
    "restJson1": "rest-json", "restXml": "rest-xml", "awsJson1_0": "json", "awsJson1_1": "json",
    "awsQuery": "query", "ec2Query": "ec2",
}  # fmt: skip


def plan(protocol: str, shapes: Json | None = None, **answered: Json) -> plans.Plan:
    made = {
        "GetOutput": structure(**answered),
        "Get": operation("Unit", "GetOutput", http=("GET", "/get")),
        **(shapes or {}),
    }
    trait_name = protocol if "#" in protocol else f"aws.protocols#{protocol}"
    (definition,) = convert(text(made, protocol=trait_name)).definitions
    return plans.read(definition.plan)


def answer(body: bytes | str, status: int = 200, **headers: str) -> HttpAnswer:
    content = body.encode() if isinstance(body, str) else body
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return HttpAnswer(status=status, headers=names, body=content)


ERRORS = [
    (
        "restJson1",
        answer('{"message":"No such pet.","id":"x"}', 404,
               x_amzn_errortype="example#NotFound:http://internal"),
        {"id": "x"},
    ),
    ("restJson1", answer('{"__type":"example#NotFound","Message":"No such pet."}', 404), None),
    ("restJson1", answer('{"code":"NotFound","message":"No such pet."}', 404), None),
    ("awsJson1_0", answer('{"__type":"example#NotFound","message":"No such pet."}', 404), None),
    ("awsJson1_1", answer('{"__type":"NotFound","Message":"No such pet."}', 404), None),
    (
        "awsQuery",
        answer("<ErrorResponse xmlns='urn:x'><Error><Type>Sender</Type><Code>NotFound</Code>"
               "<Message>No such pet.</Message></Error><RequestId>r-1</RequestId></ErrorResponse>",
               404),
        {"Type": "Sender", "RequestId": "r-1"},
    ),
    (
        "ec2Query",
        answer("<Response><Errors><Error><Code>NotFound</Code><Message>No such pet.</Message>"
               "</Error></Errors><RequestID>r-1</RequestID></Response>", 404),
        {"RequestId": "r-1"},
    ),
    (
        "restXml",
        answer("<ErrorResponse><Error><Code>NotFound</Code><Message>No such pet.</Message></Error>"
               "<RequestId>r-1</RequestId></ErrorResponse>", 404),
        {"RequestId": "r-1"},
    ),
    (
        "restXml",
        answer("<?xml version='1.0'?>\n<Error><Code>NotFound</Code><Message>No such pet.</Message>"
               "<Key>a/b</Key></Error>", 404),
        {"Key": "a/b"},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("protocol", "given", "details"), ERRORS)
def test_errors_have_the_code_and_message_that_botocore_finds(
    protocol: str, given: HttpAnswer, details: Json | None
) -> None:
    made = result(plan(protocol), given)
    assert made["isError"] is True
    assert made["content"][0]["text"].startswith("NotFound (HTTP 404): No such pet.")
    found = made["structuredContent"]
    assert (found["code"], found["message"], found["status"]) == ("NotFound", "No such pet.", 404)
    assert found.get("details") == details
    parsed = ResponseParserFactory().create_parser(BOTOCORES[protocol]).parse(
        {"status_code": 404, "headers": HeadersDict(given.headers), "body": given.body,
         "context": {"operation_name": "Get"}}, None,
    )["Error"]  # fmt: skip
    assert (parsed["Code"], parsed["Message"]) == (found["code"], found["message"])


def test_an_error_that_no_model_knows_is_told_as_it_came() -> None:
    made = result(plan("restJson1"), answer("<html>Bad gateway</html>", 502))
    said = made["content"][0]["text"]
    assert said.startswith("Error (HTTP 502): <html>Bad gateway</html>")
    assert "later" in said
    assert made["_meta"] == {"freehold/upstream-status": 502}


def test_errors_of_former_queries_keep_their_names() -> None:
    made = result(plan("awsJson1_0"), answer("{}", 400, x_amzn_query_error="AWS.Queue.Gone;Sender"))
    assert made["structuredContent"]["code"] == "AWS.Queue.Gone"


def test_errors_told_apart_by_their_status_alone_are_named_by_the_model() -> None:
    shapes = {
        "Gone": {**structure(), "traits": {**trait("error", "client"), **trait("httpError", 410)}},
        "Get": {
            **operation("Unit", "GetOutput", http=("GET", "/get")),
            "errors": [{"target": "example.pets#Gone"}],
        },
    }
    made = result(plan("alloy#simpleRestJson", shapes), answer("{}", 410))
    assert made["structuredContent"]["code"] == "Gone"


def test_a_credential_that_is_not_taken_is_said_to_be_the_gateways() -> None:
    made = result(plan("restJson1"), answer('{"message":"No."}', 401))
    assert "credential" in made["content"][0]["text"]


def test_s3_may_find_an_error_after_it_has_said_200() -> None:
    given = "<Error><Code>InternalError</Code><Message>We failed.</Message></Error>"
    made = result(plan("restXml", ETag=member("String")), answer(given))
    assert made["isError"] is True
    assert made["structuredContent"]["code"] == "InternalError"


def test_an_answer_that_is_one_value_has_no_wrapper() -> None:
    shapes = {"Get": operation("Unit", "GetOutput", http=("GET", "/get"))}
    shapes["Get"]["traits"]["aws.customizations#s3UnwrappedXmlOutput"] = {}
    given = '<LocationConstraint xmlns="urn:s3">eu-west-1</LocationConstraint>'
    made = result(plan("restXml", shapes, LocationConstraint=member("String")), answer(given))
    assert made["structuredContent"] == {"LocationConstraint": "eu-west-1"}


def test_members_that_are_null_are_not_there() -> None:
    answered = {"a": member("String"), "inner": member("Inner"), "when": member("Timestamp")}
    shapes = {"Inner": structure(b=member("String"))}
    for protocol in ("restJson1", "awsJson1_0"):
        made = result(
            plan(protocol, shapes, **answered),
            answer('{"a":null,"inner":{"b":null},"when":null,"list":[null]}'),
        )
        assert made["structuredContent"] == {"inner": {}, "list": [None]}


@pytest.mark.parametrize(
    ("wire", "read"),
    [
        (1769860800, "2026-01-31T12:00:00Z"),
        (1769860800.25, "2026-01-31T12:00:00.25Z"),
        ("2026-01-31T13:00:00+01:00", "2026-01-31T12:00:00Z"),
        ("Sat, 31 Jan 2026 12:00:00 GMT", "2026-01-31T12:00:00Z"),
        ("1769860800", "2026-01-31T12:00:00Z"),
        ("some day", "some day"),
        ("", ""),
        (1e30, 1e30),
        ([1], [1]),
    ],
)
def test_times_are_of_one_form_and_what_is_none_stays(wire: Any, read: Any) -> None:
    made = result(plan("restJson1", when=member("Timestamp")), answer(json.dumps({"when": wire})))
    assert made["structuredContent"] == {"when": read}


def test_lists_in_headers_are_split_where_their_values_end() -> None:
    shapes = {
        "Texts": {"type": "list", "member": member("String")},
        "Times": {"type": "list", "member": member("Timestamp")},
        "Numbers": {"type": "list", "member": member("Integer")},
    }
    found = plan(
        "restJson1", shapes,
        texts=member("Texts", httpHeader="X-Texts"), times=member("Times", httpHeader="X-Times"),
        numbers=member("Numbers", httpHeader="X-Numbers"),
    )  # fmt: skip
    made = result(
        found,
        answer(
            "", x_texts='a, "b,\\"c\\"" ,d', x_numbers="1,2, 3",
            x_times="Sat, 31 Jan 2026 11:00:00 GMT, Thu, 01 Jan 1970 00:00:00 GMT",
        ),
    )  # fmt: skip
    assert made["structuredContent"] == {
        "texts": ["a", 'b,"c"', "d"],
        "numbers": [1, 2, 3],
        "times": ["2026-01-31T11:00:00Z", "1970-01-01T00:00:00Z"],
    }


def test_bytes_that_are_text_come_as_text_too() -> None:
    found = plan("restJson1", body=member("Blob", httpPayload=True),
                 kind=member("String", httpHeader="Content-Type"))  # fmt: skip
    made = result(found, answer("hällo", content_type="text/plain; charset=utf-8"))
    assert base64.b64decode(made["structuredContent"]["body"]).decode() == "hällo"
    assert [block["text"] for block in made["content"][1:]] == ["hällo"]
    made = result(found, answer(b"\xff\x00", content_type="image/png"))
    assert len(made["content"]) == 1


def test_an_answer_that_was_cut_off_is_not_read() -> None:
    cut = HttpAnswer(status=200, headers={}, body=b'{"a":', truncated=True)
    made = result(plan("restJson1", a=member("String")), cut)
    assert made["isError"] is True
    assert "Ask for less" in made["content"][0]["text"]


BOMB = '<!DOCTYPE a [<!ENTITY b "{x}"><!ENTITY c "&b;&b;&b;">]><a><A>&c;</A></a>'.replace(
    "{x}", "x" * 99
)
FILE = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a><A>&b;</A></a>'


@pytest.mark.parametrize("protocol", ["restXml", "awsQuery", "ec2Query"])
@pytest.mark.parametrize(
    "given",
    [
        BOMB, FILE, "<!DOCTYPE a><a/>", "<a" * 10, "<a>&undefined;</a>", "<a>" * 100 + "</a>" * 100,
        "<?xml version='1.0' encoding='nonsense'?><a/>",
        b"\xff\xfe<", "{}",
    ],
)  # fmt: skip
def test_xml_that_is_not_plain_data_is_no_answer(protocol: str, given: str | bytes) -> None:
    found = plan(protocol, A=member("String"))
    with pytest.raises(TargetFailed, match="could not be read"):
        result(found, answer(given))
    # As an error it is text, and nothing in it was expanded.
    made = result(found, answer(given, 500))
    assert "root:" not in made["content"][0]["text"]


def test_xml_of_more_elements_than_anybody_reads_is_no_answer() -> None:
    with pytest.raises(TargetFailed, match="too long"):
        result(plan("restXml", A=member("String")), answer("<a>" + "<b/>" * 200_001 + "</a>"))


@pytest.mark.parametrize("given", ["[1]", "5", "{", "[" * 100_000, b"\xff", '"x"'])
def test_json_that_is_no_object_is_no_answer(given: str | bytes) -> None:
    with pytest.raises(TargetFailed, match="could not be read"):
        result(plan("awsJson1_1", a=member("String")), answer(given))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_answer_whatever_it_is_makes_more_of_it_than_a_failure(protocol: str) -> None:
    random = Random(protocol)
    shapes = {
        "Deep": structure(when=member("Timestamp"), deep=member("Deep"), deeps=member("Deeps"),
                          byName=member("ByName"), flag=member("Boolean"), n=member("Integer")),
        "Deeps": {"type": "list", "member": member("Deep")},
        "ByName": {"type": "map", "key": member("String"), "value": member("Deep")},
    }  # fmt: skip
    found = plan(protocol, shapes, deep=member("Deep"), h=member("Integer", httpHeader="h"))
    names = ("when", "deep", "deeps", "byName", "flag", "n", "entry", "key", "value", "member")

    def as_json(depth: int) -> Any:
        if depth > 5 or random.random() < 0.3:
            return random.choice([None, True, 3, 1e300, "x", "2026", "2026-13-01T", [], {}])
        if random.random() < 0.3:
            return [as_json(depth + 1) for _ in range(2)]
        return {n: as_json(depth + 1) for n in random.sample(names, 3)}

    def as_xml(depth: int) -> str:
        if depth > 3 or random.random() < 0.2:
            return random.choice(["", "x", "3", "true", "NaN", "2026-01-01", "&amp;"])
        return "".join(f"<{n}>{as_xml(depth + 1)}</{n}>" for n in random.sample(names, 3))

    seen = set()
    for _ in range(300):
        wrapped = {"deep": as_json(0)}
        body = (
            json.dumps(wrapped)
            if protocol in ("restJson1", "awsJson1_0", "awsJson1_1")
            else f"<R><GetResult><deep>{as_xml(0)}</deep></GetResult><deep>{as_xml(0)}</deep></R>"
        )
        if random.random() < 0.3:
            at = random.randrange(len(body))
            body = body[:at] + random.choice(("", "<", "}", "\x00", "é")) + body[at + 1 :]
        try:
            made = result(found, answer(body, random.choice((200, 204, 400, 500)), h="one"))
        except TargetFailed:
            seen.add("failed")
        else:
            json.dumps(made, allow_nan=False)
            seen.add("refused" if made["isError"] else "answered")
    assert seen == {"failed", "refused", "answered"}
