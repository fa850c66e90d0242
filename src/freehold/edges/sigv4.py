"""Signature Version 4, the server's side: header and presigned requests.

What is verified is what was sent: the raw path and the raw query, never a decoded or tidied
form, so that no second spelling of a request carries the same signature.
"""

import contextlib
import functools
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import quote, unquote

import msgspec
from starlette.types import Scope

from freehold.kernel import clock
from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.errors import AccessDenied
from freehold.ports.authorizer import AccessKey, AccessKeys

UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"

_ALGORITHM = "AWS4-HMAC-SHA256"
_AUTHORIZATION = re.compile(
    rf"{_ALGORITHM} +Credential=([^,\s]+),\s*SignedHeaders=([^,\s]+),\s*Signature=([0-9a-f]{{64}})"
)
_CREDENTIAL = re.compile(r"(\w{1,128})/(\d{8})/([^/]{1,64})/([^/]{1,64})/aws4_request", re.ASCII)
_TIMESTAMP = re.compile(r"\d{8}T\d{6}Z", re.ASCII)
_SECONDS = re.compile(r"\d{1,6}", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SIGNATURE = _SHA256
# A path of these alone is canonical once its percent signs are encoded again.
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_.~/%-]*")
_QUERY_AUTH = {
    name.lower(): name
    for name in (
        "X-Amz-Algorithm",
        "X-Amz-Credential",
        "X-Amz-Date",
        "X-Amz-Expires",
        "X-Amz-Security-Token",
        "X-Amz-Signature",
        "X-Amz-SignedHeaders",
    )
}
# These decide who calls and what is signed: two of one kind could be read in two ways.
_SENT_ONCE = ("host", "x-amz-date", "x-amz-content-sha256", "x-amz-security-token")
# An unknown key is checked with this one, so that it costs and answers like a wrong secret.
_SECRET_OF_NOBODY = secrets.token_urlsafe(30)


class SignatureRefused(AccessDenied):
    """403. `code` is the error name that AWS itself answers with; S3's names differ."""

    code = "InvalidSignatureException"


class NotSigned(SignatureRefused):
    code = "MissingAuthenticationTokenException"


class SignatureIncomplete(SignatureRefused):
    """The signature is there, but not of the required form, or does not cover enough."""

    code = "IncompleteSignatureException"


class SignatureOutOfTime(SignatureRefused):
    """Too old, too far ahead, or presigned for too long."""


class SignatureMismatch(SignatureRefused):
    """An unknown or disabled key, a wrong secret, or a changed request: callers cannot tell."""

    def __init__(self) -> None:
        super().__init__(
            "The request signature we calculated does not match the signature you provided. "
            "Check your access key, your secret access key and the signing method."
        )


class TokenOfKeyRefused(SignatureRefused):
    """A temporary key without its session token, or a permanent key with one."""

    code = "UnrecognizedClientException"

    def __init__(self) -> None:
        super().__init__("The security token included in the request is invalid.")


class KeyExpired(SignatureRefused):
    """Told only to who holds the key: the signature and the token are right."""

    code = "ExpiredTokenException"

    def __init__(self) -> None:
        super().__init__("The security token included in the request is expired. Sign in again.")


class PayloadMismatch(SignatureRefused):
    """The body is not the one whose hash was declared and signed."""

    def __init__(self) -> None:
        super().__init__("The body's SHA-256 differs from x-amz-content-sha256.")


class SignatureRules(msgspec.Struct, frozen=True, kw_only=True):
    """What one edge accepts.

    `path_encoded_once`: S3's canonical path. `payload_literals`: values of x-amz-content-sha256
    that are not a hash (UNSIGNED-PAYLOAD, STREAMING-...); the edge that allows one checks the
    body by other means, and lets a presigned request go without the header.
    """

    region: str
    services: frozenset[str]
    path_encoded_once: bool = False
    payload_literals: frozenset[str] = frozenset()
    presigned_seconds_max: int = 3600
    skew_seconds_max: int = 300


class SignedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A signature as claimed: well formed, in time, covering enough; not yet verified.

    `payload` is what was declared of the body (64 hex digits or an allowed literal), or None
    when the body's own hash is what is signed. `canonical_head` is the canonical request but for
    its last line, the payload.
    """

    access_key_id: str
    date: str
    region: str
    service: str
    timestamp: str
    signature: str
    payload: str | None
    presigned: bool
    canonical_head: str
    token: str | None = None
    """The session token that came with it."""

    def __repr__(self) -> str:
        return f"SignedRequest({self.access_key_id}, {self.timestamp})"

    @property
    def declares_hash(self) -> bool:
        return self.payload is not None and _SHA256.fullmatch(self.payload) is not None

    def check_body(self, body_sha256: str) -> None:
        """Raises PayloadMismatch where a hash was declared and the body has another."""
        if self.declares_hash and not hmac.compare_digest(str(self.payload), body_sha256):
            raise PayloadMismatch


class _Claim(NamedTuple):
    """The parameters of a signature, wherever they stood. `query` leaves the signature out."""

    credential: str
    signed_headers: str
    signature: str
    timestamp: str
    expires_seconds: int | None
    query: list[tuple[str, str]]


class Verifier:
    def __init__(
        self,
        keys: AccessKeys,
        rules: SignatureRules,
        *,
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        self.rules = rules
        self._keys = keys
        self._now = now

    def read(self, scope: Scope) -> SignedRequest:
        """Everything that can be refused without the key and without the body."""
        headers = _headers(scope)
        claim = _claim(scope, headers)
        scoped = _CREDENTIAL.fullmatch(claim.credential)
        if scoped is None:
            raise SignatureIncomplete("Credential must be {key}/{date}/{region}/{service}/...")
        access_key_id, date, region, service = scoped.groups()
        if region != self.rules.region or service not in self.rules.services:
            expected = ", ".join(sorted(self.rules.services))
            raise SignatureRefused(
                f"Credential should be scoped to region {self.rules.region}, service {expected}."
            )
        self._check_time(claim, date)
        names = _check_signed_headers(claim.signed_headers, headers)
        return SignedRequest(
            access_key_id=access_key_id,
            date=date,
            region=region,
            service=service,
            timestamp=claim.timestamp,
            signature=claim.signature,
            payload=self._payload(headers, presigned=claim.expires_seconds is not None),
            presigned=claim.expires_seconds is not None,
            canonical_head=self._canonical_head(scope, claim, names, headers),
            token=_session_token(claim, headers),
        )

    async def verify(self, signed: SignedRequest, body_sha256: str | None) -> Caller:
        """The caller. `body_sha256` may be None while the body is unread, if one was declared.

        Whoever passes None reads no more of the body than it can refuse, and ends with
        `signed.check_body`.
        """
        key = await self._keys.active(signed.access_key_id)
        payload = body_sha256 if signed.payload is None else signed.payload
        assert payload is not None, "no hash was declared: the body must be hashed first"
        wanted = _signature(signed, payload, key.secret if key else _SECRET_OF_NOBODY)
        if not hmac.compare_digest(wanted, signed.signature) or key is None:
            raise SignatureMismatch
        check_token(key, signed.token, self._now())
        if body_sha256 is not None:
            signed.check_body(body_sha256)
        return caller_of(key)

    def _check_time(self, claim: _Claim, date: str) -> None:
        signed_at = _parse_timestamp(claim.timestamp)
        if claim.timestamp[:8] != date:
            raise SignatureIncomplete("Date in Credential scope does not match X-Amz-Date.")
        age_seconds = (self._now() - signed_at).total_seconds()
        skew = self.rules.skew_seconds_max
        if age_seconds < -skew:
            raise SignatureOutOfTime("Signature not yet current: check this machine's clock.")
        if claim.expires_seconds is None:
            if age_seconds > skew:
                raise SignatureOutOfTime("Signature expired: check this machine's clock.")
            return
        if not 0 < claim.expires_seconds <= self.rules.presigned_seconds_max:
            raise SignatureOutOfTime(
                f"X-Amz-Expires must be from 1 to {self.rules.presigned_seconds_max} seconds."
            )
        if age_seconds > claim.expires_seconds:
            raise SignatureOutOfTime("The presigned request has expired.")

    def _payload(self, headers: Mapping[str, list[str]], *, presigned: bool) -> str | None:
        declared = headers.get("x-amz-content-sha256")
        if declared is None:
            if presigned and UNSIGNED_PAYLOAD in self.rules.payload_literals:
                return UNSIGNED_PAYLOAD
            return None
        if _SHA256.fullmatch(declared[0]) or declared[0] in self.rules.payload_literals:
            return declared[0]
        raise SignatureRefused("x-amz-content-sha256 must be the SHA-256 of the body.")

    def _canonical_head(
        self, scope: Scope, claim: _Claim, names: list[str], headers: Mapping[str, list[str]]
    ) -> str:
        path = scope["raw_path"].decode("latin-1") or "/"
        if not self.rules.path_encoded_once:
            plain = _PLAIN_PATH.fullmatch(path)
            path = path.replace("%", "%25") if plain else quote(path, safe="/~")
        query = "&".join([f"{name}={value}" for name, value in sorted(claim.query)])
        lines = [f"{name}:{_header_value(headers[name])}\n" for name in names]
        method = scope["method"]
        return f"{method}\n{path}\n{query}\n{''.join(lines)}\n{claim.signed_headers}\n"


def check_token(key: AccessKey, token: str | None, now: datetime) -> None:
    """That a temporary key came with its session token, in time, and a permanent one with none."""
    if key.token_sha256 is None:
        if token is not None:
            raise TokenOfKeyRefused
        return
    sent = hashlib.sha256((token or "").encode()).hexdigest()
    if not hmac.compare_digest(sent, key.token_sha256):
        raise TokenOfKeyRefused
    if key.expires_at is None or key.expires_at <= now:
        raise KeyExpired


def caller_of(key: AccessKey) -> Caller:
    if key.token_sha256 is None:
        principal, kind = f"access-key/{key.id}", CallerKind.ACCESS_KEY
    else:
        principal, kind = f"user/{key.user}", CallerKind.PERSON
    return Caller(
        tenant=key.tenant,
        principal=f"arn:aws:iam::{key.tenant}:{principal}",
        kind=kind,
        access_key_id=key.id,
        user=key.user,
        roles=key.roles,
    )


def _session_token(claim: _Claim, headers: Mapping[str, list[str]]) -> str | None:
    """It stands where the signature stands: elsewhere it could be added by anybody."""
    if claim.expires_seconds is not None:
        if "x-amz-security-token" in headers:
            raise SignatureIncomplete("A presigned request has its security token in the query.")
        values = [unquote(v) for name, v in claim.query if name == "X-Amz-Security-Token"]
    else:
        values = headers.get("x-amz-security-token", [])
    return values[0] if values else None


def claimed_service(scope: Scope) -> str | None:
    """The service that a request says it is signed for: enough to route by, not to trust."""
    text = next((v for k, v in scope["headers"] if k == b"authorization"), None)
    found = _CLAIMED_HEADER.search(text) if text else _CLAIMED_QUERY.search(scope["query_string"])
    return found[1].decode("latin-1") if found else None


_CLAIMED_HEADER = re.compile(rb"Credential=[^/,\s]+/\d{8}/[^/,\s]+/([^/,\s]+)/aws4_request")
_CLAIMED_QUERY = re.compile(
    rb"(?:^|&)X-Amz-Credential=\w+(?:%2F|/)\d{8}(?:%2F|/)[\w.-]+(?:%2F|/)([\w.-]+)(?:%2F|/)aws4",
    re.IGNORECASE,
)


@functools.lru_cache(maxsize=1024)
def signing_key(secret: str, date: str, region: str, service: str) -> bytes:
    """Derived for one day: four hashes saved on every request but the first."""
    key = f"AWS4{secret}".encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def _signature(signed: SignedRequest, payload: str, secret: str) -> str:
    canonical = f"{signed.canonical_head}{payload}".encode()
    to_sign = (
        f"{_ALGORITHM}\n{signed.timestamp}\n"
        f"{signed.date}/{signed.region}/{signed.service}/aws4_request\n"
        f"{hashlib.sha256(canonical).hexdigest()}"
    )
    key = signing_key(secret, signed.date, signed.region, signed.service)
    return hmac.digest(key, to_sign.encode(), "sha256").hex()


def _headers(scope: Scope) -> dict[str, list[str]]:
    headers: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name.decode("latin-1"), []).append(header_text(value))
    for name in _SENT_ONCE:
        if len(headers.get(name, ())) > 1:
            raise SignatureIncomplete(f"The header {name} must not be repeated.")
    return headers


def header_text(value: bytes) -> str:
    """Clients sign UTF-8 but some send Latin-1 (http.client): what is not one is the other."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _header_value(values: list[str]) -> str:
    return ",".join([" ".join(value.split()) for value in values])


def _claim(scope: Scope, headers: Mapping[str, list[str]]) -> _Claim:
    pairs, found = _query(scope["query_string"])
    authorization = headers.get("authorization")
    if authorization is None:
        return _presigned_claim(pairs, found)
    if len(authorization) > 1 or found.keys() & {"X-Amz-Signature", "X-Amz-Credential"}:
        raise SignatureIncomplete("Only one authentication mechanism is allowed.")
    matched = _AUTHORIZATION.fullmatch(authorization[0])
    if matched is None:
        if authorization[0].startswith(_ALGORITHM):
            raise SignatureIncomplete(
                "Authorization must name Credential, SignedHeaders and Signature, in this order."
            )
        raise NotSigned("Authorization is not a signature of version 4.")
    timestamp = headers.get("x-amz-date")
    if timestamp is None:
        raise SignatureIncomplete("The header x-amz-date is missing.")
    credential, signed_headers, signature = matched.groups()
    return _Claim(credential, signed_headers, signature, timestamp[0], None, pairs)


def _presigned_claim(pairs: list[tuple[str, str]], found: dict[str, str]) -> _Claim:
    if "X-Amz-Signature" not in found:
        raise NotSigned("Missing Authentication Token: the request is not signed.")
    missing = _QUERY_AUTH.keys() - {"x-amz-security-token"} - {name.lower() for name in found}
    if missing:
        names = ", ".join(sorted(_QUERY_AUTH[name] for name in missing))
        raise SignatureIncomplete(f"Presigned requests need {names}.")
    if found["X-Amz-Algorithm"] != _ALGORITHM:
        raise SignatureIncomplete(f"X-Amz-Algorithm must be {_ALGORITHM}.")
    if not _SECONDS.fullmatch(found["X-Amz-Expires"]):
        raise SignatureOutOfTime("X-Amz-Expires must be a number of seconds.")
    if not _SIGNATURE.fullmatch(found["X-Amz-Signature"]):
        raise SignatureIncomplete("X-Amz-Signature must be 64 hexadecimal digits.")
    return _Claim(
        found["X-Amz-Credential"],
        found["X-Amz-SignedHeaders"],
        found["X-Amz-Signature"],
        found["X-Amz-Date"],
        int(found["X-Amz-Expires"]),
        [pair for pair in pairs if pair[0] != "X-Amz-Signature"],
    )


def _query(raw: bytes) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """All pairs as sent, and the authentication parameters among them, decoded."""
    if not raw:
        return [], {}
    pairs: list[tuple[str, str]] = []
    found: dict[str, str] = {}
    for pair in raw.decode("latin-1").split("&"):
        name, _, value = pair.partition("=")
        pairs.append((name, value))
        decoded = unquote(name)
        known = _QUERY_AUTH.get(decoded.lower())
        if known is None:
            continue
        if name != known or known in found:
            raise SignatureIncomplete(f"{known} must stand once, and be spelled so.")
        found[known] = unquote(value)
    return pairs, found


def _check_signed_headers(signed: str, headers: Mapping[str, list[str]]) -> list[str]:
    names = signed.split(";")
    distinct = set(names)
    if len(distinct) != len(names) or names != sorted(names):
        raise SignatureIncomplete("SignedHeaders must be sorted and name no header twice.")
    if "host" not in distinct:
        raise SignatureIncomplete("The header host must be signed.")
    for name in names:
        if name not in headers:
            raise SignatureIncomplete("SignedHeaders names a header that the request lacks.")
    for name in headers:
        if name.startswith("x-amz-") and name not in distinct:
            raise SignatureIncomplete(f"The header {name} must be signed.")
    return names


def _parse_timestamp(text: str) -> datetime:
    if _TIMESTAMP.fullmatch(text):
        date = int(text[:4]), int(text[4:6]), int(text[6:8])
        with contextlib.suppress(ValueError):  # a 13th month is no date
            return datetime(*date, int(text[9:11]), int(text[11:13]), int(text[13:15]), tzinfo=UTC)
    raise SignatureIncomplete("X-Amz-Date must be of the form 20260131T235959Z.")
