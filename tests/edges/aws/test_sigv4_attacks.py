"""A signed request that somebody changed, or that was signed by other rules, is refused."""

import random
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aws_edge_driver import (
    KEY,
    REGION,
    Keys,
    scope_of,
    signed_scope,
)
from signed_requests import BODY, PATH, RULES, SERVICE, Scope, check, presigned_scope

from freehold.edges import sigv4
from freehold.edges.pipeline import Call
from freehold.edges.sigv4 import SignatureRefused, Verifier
from freehold.edges.spool import Inbound, SignatureAuthenticator, SpoolSpace


def replace_header(scope: Scope, name: str, value: bytes | None, *, add: bool = False) -> None:
    key = name.encode()
    if not add:
        scope["headers"] = [pair for pair in scope["headers"] if pair[0] != key]
    if value is not None:
        scope["headers"].append((key, value))


def header(scope: Scope, name: str) -> bytes:
    return next(value for key, value in scope["headers"] if key == name.encode())


def edit_authorization(pattern: str, replacement: str) -> Callable[[Scope], None]:
    def edit(scope: Scope) -> None:
        old = header(scope, "authorization").decode()
        new = re.sub(pattern, replacement, old)
        assert new != old
        replace_header(scope, "authorization", new.encode())

    return edit


def edit_key(name: str, old: bytes, new: bytes) -> Callable[[Scope], None]:
    def edit(scope: Scope) -> None:
        assert old in scope[name]
        scope[name] = scope[name].replace(old, new, 1)

    return edit


def set_header(name: str, value: bytes | None, *, add: bool = False) -> Callable[[Scope], None]:
    return lambda scope: replace_header(scope, name, value, add=add)


ATTACKS: dict[str, Callable[[Scope], None]] = {
    "method": lambda scope: scope.update(method="PUT"),
    "path, another runtime": edit_key("raw_path", b"demo", b"dem0"),
    "path, decoded": edit_key("raw_path", b"%3A", b":"),
    "path, escape in lower case": edit_key("raw_path", b"%3A", b"%3a"),
    "path, encoded again": edit_key("raw_path", b"%3A", b"%253A"),
    "path, a dot segment": edit_key("raw_path", b"/runtimes/", b"/x/../runtimes/"),
    "path, a double slash": edit_key("raw_path", b"/runtimes/", b"//runtimes/"),
    "path, a trailing slash": lambda scope: scope.update(raw_path=scope["raw_path"] + b"/"),
    "query, another value": edit_key("query_string", b"DEFAULT", b"OTHER"),
    "query, one more": edit_key("query_string", b"qualifier", b"a=b&qualifier"),
    "query, one less": edit_key("query_string", b"&accountId=123456789012", b""),
    "query, escaped otherwise": edit_key("query_string", b"DEFAULT", b"%44EFAULT"),
    "query, repeated": edit_key("query_string", b"qualifier", b"qualifier=x&qualifier"),
    "host": set_header("host", b"other.test"),
    "host missing": set_header("host", None),
    "host twice": set_header("host", b"edge.test", add=True),
    "a signed header changed": set_header("x-custom", b"changed"),
    "a signed header gone": set_header("x-custom", None),
    "a signed header twice": set_header("x-custom", b"value", add=True),
    "an unsigned x-amz header": set_header("x-amz-target", b"x"),
    "date changed": set_header("x-amz-date", b"20200101T000000Z"),
    "date twice": set_header("x-amz-date", b"20200101T000000Z", add=True),
    "date missing": set_header("x-amz-date", None),
    "date garbage": set_header("x-amz-date", b"now"),
    "date impossible": set_header("x-amz-date", b"20261399T999999Z"),
    "declared hash unsigned": set_header("x-amz-content-sha256", b"0" * 64),
    "authorization missing": set_header("authorization", None),
    "authorization twice": set_header("authorization", b"AWS4-HMAC-SHA256 x", add=True),
    "authorization bearer": set_header("authorization", b"Bearer x"),
    "authorization empty": set_header("authorization", b""),
    "authorization latin-1": set_header("authorization", b"AWS4-HMAC-SHA256 \xff"),
    "signature zero": edit_authorization("Signature=.*", "Signature=" + "0" * 64),
    "signature empty": edit_authorization("Signature=.*", "Signature="),
    "signature short": edit_authorization("Signature=(.*)..$", r"Signature=\1"),
    "signature in upper case": lambda scope: replace_header(
        scope,
        "authorization",
        re.sub(
            rb"[0-9a-f]{64}$",
            lambda found: found[0].upper(),
            header(scope, "authorization"),
        ),
    ),
    "another algorithm": edit_authorization("HMAC-SHA256", "ECDSA-P256-SHA256"),
    "another key": edit_authorization("FHIA[A-Z]*", "FHIAOTHER"),
    "another date in the scope": edit_authorization(r"/\d{8}/", "/20200101/"),
    "another region": edit_authorization("us-east-1", "eu-west-1"),
    "another service": edit_authorization("/bedrock-agentcore/", "/s3/"),
    "another terminator": edit_authorization("aws4_request", "aws5_request"),
    "a scope too long": edit_authorization("aws4_request", "aws4_request/x"),
    "host not signed": edit_authorization("host;", ""),
    "signed headers unsorted": edit_authorization("host;x-amz-date", "x-amz-date;host"),
    "signed headers repeated": edit_authorization("host;", "host;host;"),
    "signed headers in upper case": edit_authorization("host;", "Host;"),
    "a signed header that is not there": edit_authorization("host;", "host;nothing;"),
    "two mechanisms": edit_key("query_string", b"qualifier", b"X-Amz-Signature=a&qualifier"),
    "two credentials": edit_key("query_string", b"qualifier", b"X-Amz-Credential=a&qualifier"),
}


@pytest.mark.parametrize("name", ATTACKS)
async def test_a_signed_request_with_one_thing_changed_is_refused(name: str) -> None:
    scope = signed_scope("POST", PATH, BODY, {"X-Custom": "value"})
    await check(scope)
    ATTACKS[name](scope)
    with pytest.raises(SignatureRefused) as refused:
        await check(scope)
    assert refused.value.status == 403


async def test_a_changed_body_is_refused() -> None:
    scope = signed_scope("POST", PATH, BODY)
    for body in (b"", BODY + b" ", BODY[:-1], BODY.replace(b"hi", b"HI")):
        with pytest.raises(SignatureRefused):
            await check(scope, body)


def edit_query(pattern: str, replacement: str) -> Callable[[Scope], None]:
    def edit(scope: Scope) -> None:
        old = scope["query_string"].decode()
        new = re.sub(pattern, replacement, old, count=1)
        assert new != old
        scope["query_string"] = new.encode()

    return edit


PRESIGNED_ATTACKS: dict[str, Callable[[Scope], None]] = {
    "method": lambda scope: scope.update(method="DELETE"),
    "path": edit_key("raw_path", b"demo", b"dem0"),
    "a longer life": edit_query("X-Amz-Expires=300", "X-Amz-Expires=3000"),
    "a life in words": edit_query("X-Amz-Expires=300", "X-Amz-Expires=forever"),
    "a signed life": edit_query("X-Amz-Expires=300", "X-Amz-Expires=%2B300"),
    "a later date": edit_query(r"X-Amz-Date=\d{8}", "X-Amz-Date=20300101"),
    "signature zero": edit_query("X-Amz-Signature=.{64}", "X-Amz-Signature=" + "0" * 64),
    "signature twice": edit_query("^", "X-Amz-Signature=0&"),
    "credential twice": edit_query("^", "X-Amz-Credential=0&"),
    "date twice": edit_query("^", "X-Amz-Date=20300101T000000Z&"),
    "expires twice": edit_query("$", "&X-Amz-Expires=3600"),
    "signed headers twice": edit_query("$", "&X-Amz-SignedHeaders=host"),
    "security token twice": edit_query("$", "&X-Amz-Security-Token=a&X-Amz-Security-Token=b"),
    "an auth parameter in lower case": edit_query("$", "&x-amz-expires=3600"),
    "an auth parameter with an escape": edit_query("$", "&X-Amz-%45xpires=3600"),
    "algorithm": edit_query("HMAC-SHA256", "HMAC-SHA1"),
    "algorithm missing": edit_query("X-Amz-Algorithm=[^&]*&", ""),
    "expires missing": edit_query("X-Amz-Expires=[^&]*&", ""),
    "date missing": edit_query("X-Amz-Date=[^&]*&", ""),
    "region": edit_query("us-east-1", "eu-west-1"),
    "another parameter": edit_query("qualifier=DEFAULT", "qualifier=OTHER"),
    "one more parameter": edit_query("^", "maxResults=1&"),
    "another host": set_header("host", b"other.test"),
    "an unsigned x-amz header": set_header("x-amz-target", b"x"),
    "a header signature as well": set_header("authorization", b"AWS4-HMAC-SHA256 x"),
}


@pytest.mark.parametrize("name", PRESIGNED_ATTACKS)
async def test_a_presigned_request_with_one_thing_changed_is_refused(name: str) -> None:
    scope = presigned_scope()
    await check(scope, b"")
    PRESIGNED_ATTACKS[name](scope)
    with pytest.raises(SignatureRefused) as refused:
        await check(scope, b"")
    assert refused.value.status == 403


async def test_every_single_bit_of_what_is_signed_counts() -> None:
    """Mutations nobody thought of: one random byte of path, query, header or body."""
    choose = random.Random(7)
    for _ in range(300):
        scope, body = signed_scope("POST", PATH, BODY, {"X-Custom": "some value"}), BODY
        place = choose.choice(["raw_path", "query_string", "header", "body"])
        if place == "body":
            body = flipped(body, choose)
        elif place == "header":
            signed = [pair for pair in scope["headers"] if pair[0] != b"content-length"]
            name, value = choose.choice(signed)
            replace_header(scope, name.decode(), flipped(value, choose))
        else:
            scope[place] = flipped(scope[place], choose)
        with pytest.raises(SignatureRefused):
            await check(scope, body)


def forged_scope(**parts: Any) -> Scope:
    """Signed with the right secret, and not by the rules: only the rules can refuse it."""
    now = datetime.now(UTC)
    date = parts.get("date", f"{now:%Y%m%d}")
    timestamp = f"{now:%Y%m%dT%H%M%SZ}"
    region, service = parts.get("region", REGION), parts.get("service", SERVICE)
    names: str = parts.get("names", "host;x-amz-date")
    query: str = parts.get("query", "")
    headers = [("host", "edge.test"), ("x-amz-date", timestamp), *parts.get("headers", [])]
    credential = f"{KEY.id}/{date}/{region}/{service}/aws4_request"
    if parts.get("presigned"):
        headers = [pair for pair in headers if pair[0] != "x-amz-date"]
        query = query.format(credential=quote(credential, safe=""), timestamp=timestamp)
    values: dict[str, list[str]] = {}
    for name, value in headers:
        values.setdefault(name, []).append(value)
    canonical = "".join(f"{name}:{','.join(values.get(name, []))}\n" for name in names.split(";"))
    canonical_query = "&".join(sorted(query.split("&")))
    head = f"GET\n/x\n{canonical_query}\n{canonical}\n{names}\n"
    digest = sigv4.hashlib.sha256(f"{head}{EMPTY}".encode()).hexdigest()
    to_sign = f"AWS4-HMAC-SHA256\n{timestamp}\n{credential.partition('/')[2]}\n{digest}"
    key = sigv4.signing_key(KEY.secret, date, region, service)
    signature = sigv4.hmac.digest(key, to_sign.encode(), "sha256").hex()
    if parts.get("presigned"):
        query = f"{query}&X-Amz-Signature={signature}"
    else:
        told = f"Credential={credential}, SignedHeaders={names}, Signature={signature}"
        headers.append(("authorization", f"AWS4-HMAC-SHA256 {told}"))
    raw = [(name.encode(), value.encode()) for name, value in headers]
    return scope_of("GET", b"/x", query.encode(), raw)


EMPTY = sigv4.hashlib.sha256(b"").hexdigest()
PRESIGNED = (
    "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={credential}&X-Amz-Date={timestamp}"
    "&X-Amz-Expires=60&X-Amz-SignedHeaders=host"
)
FORGERIES: dict[str, dict[str, Any]] = {
    "host not signed": {"names": "x-amz-date"},
    "a header of x-amz not signed": {"headers": [("x-amz-target", "x")]},
    "date not signed": {"names": "host"},
    "names unsorted": {"names": "x-amz-date;host"},
    "names repeated": {"names": "host;host;x-amz-date"},
    "a name without a header": {"names": "host;nothing;x-amz-date"},
    "another day in the scope": {"date": "20200101"},
    "another region": {"region": "eu-west-1"},
    "another service": {"service": "s3"},
    "host twice": {"headers": [("host", "other.test")]},
    "date twice": {"headers": [("x-amz-date", "20200101T000000Z")]},
    "hash twice": {
        "headers": [("x-amz-content-sha256", EMPTY), ("x-amz-content-sha256", "0" * 64)],
        "names": "host;x-amz-content-sha256;x-amz-date",
    },
    "presigned with another spelling": {
        "presigned": True,
        "names": "host",
        "query": PRESIGNED + "&x-amz-expires=3600",
    },
    "presigned with an escaped name": {
        "presigned": True,
        "names": "host",
        "query": PRESIGNED.replace("X-Amz-Expires", "X-Amz-%45xpires"),
    },
    "presigned with a parameter twice": {
        "presigned": True,
        "names": "host",
        "query": PRESIGNED + "&X-Amz-Expires=61",
    },
}


@pytest.mark.parametrize("name", FORGERIES)
async def test_a_right_signature_by_wrong_rules_is_refused(name: str) -> None:
    await check(forged_scope(), b"")
    await check(forged_scope(presigned=True, names="host", query=PRESIGNED), b"")
    with pytest.raises(SignatureRefused) as refused:
        await check(forged_scope(**FORGERIES[name]), b"")
    assert not isinstance(refused.value, sigv4.SignatureMismatch), "a rule must refuse it"


async def test_with_a_declared_hash_a_forger_stores_nothing(tmp_path: Path) -> None:
    async def receive() -> Any:
        raise AssertionError("the body was read")

    scope = signed_scope("POST", PATH, BODY, {"X-Amz-Content-SHA256": EMPTY})
    replace_header(scope, "x-custom", b"unsigned, which is allowed")
    edit_authorization("Signature=.*", "Signature=" + "0" * 64)(scope)
    authenticator = SignatureAuthenticator(
        Verifier(Keys(KEY), RULES), SpoolSpace(str(tmp_path), bytes_max=1), body_bytes_max=99
    )
    with pytest.raises(sigv4.SignatureMismatch):
        await authenticator(call_of(scope, receive))


async def test_a_body_other_than_the_declared_one_reaches_nobody(tmp_path: Path) -> None:
    async def receive() -> Any:
        return {"type": "http.request", "body": BODY[:-1] + b"]", "more_body": False}

    digest = sigv4.hashlib.sha256(BODY).hexdigest()
    scope = signed_scope("POST", PATH, BODY, {"X-Amz-Content-SHA256": digest})
    authenticator = SignatureAuthenticator(
        Verifier(Keys(KEY), RULES), SpoolSpace(str(tmp_path), bytes_max=1), body_bytes_max=99
    )
    call = call_of(scope, receive)
    with pytest.raises(sigv4.PayloadMismatch):
        await authenticator(call)
    assert call.body is None


def call_of(scope: Scope, receive: Any) -> Call:
    async def nothing(call: Call) -> None: ...

    return Call(
        edge="test",
        operation="test",
        scope=scope,
        receive=Inbound(scope, receive),
        authenticator=nothing,  # type: ignore[arg-type]
        prepare=nothing,
    )


def flipped(data: bytes, choose: random.Random) -> bytes:
    at = choose.randrange(len(data))
    return data[:at] + bytes([data[at] ^ choose.choice([1, 2, 4, 8])]) + data[at + 1 :]
