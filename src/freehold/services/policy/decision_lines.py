"""A decision as one line for the store: what may be looked for in columns, the rest sealed."""

import json
import secrets
import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from freehold.kernel.arns import Arn
from freehold.ports.secrets import SealBroken, Sealer
from freehold.services.policy.model import Decided

INPUT_BYTES_MAX = 64 << 10
_TEXT_BYTES_MAX = 1000  # of a column: an index takes 2,700
_POLICIES_MAX = 100
_ERRORS_MAX = 20
_USUAL_BYTES_MAX = 1500


class Inputs(msgspec.Struct, frozen=True, array_like=True):
    """What a decision was made of, as it is sealed. `omitted_bytes`: they were so many, and what is
    None was not kept. `principal` is the whole of one that was too long for its column."""

    arguments: dict[str, Any] | None
    claims: dict[str, Any] | None
    context: dict[str, Any] | None
    errors: list[str] = []
    principal: str | None = None
    omitted_bytes: int = 0


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """Its members are the columns. Bytes are base64 in JSON."""

    tenant: str
    id: str
    at: datetime
    request_id: str
    gateway_id: str
    gateway_arn: str
    engine_id: str
    engine_version: str
    schema_version: str
    mode: str
    tool: str
    target: str
    principal: str
    principal_type: str
    principal_kind: str
    user: str | None
    allowed: bool
    policies: Sequence[str]
    errors: int
    shadow_allowed: bool | None
    shadow_policies: Sequence[str]
    microseconds: int
    sealed_inputs: bytes


_encode = msgspec.json.Encoder(decimal_format="number").encode
_decode = msgspec.json.Decoder(Inputs).decode


def line_of(decided: Decided, sealer: Sealer) -> bytes:
    """JSON. Whatever a client said fits the columns: cut, and without what Postgres cannot hold."""
    plain = _plain(decided)
    sealed = sealer.seal(plain, context=_context(decided.tenant, decided.id))
    line = _line(decided, sealed)
    try:
        encoded = _encode(line)
        if len(encoded) <= _USUAL_BYTES_MAX + 4 * len(sealed) // 3 and b"\\u0000" not in encoded:
            return encoded
    except UnicodeEncodeError:
        pass
    return _encode(_bounded(line))


def opened(tenant: str, id: str, sealed: bytes, sealer: Sealer) -> Inputs:
    """Raises SealBroken."""
    plain = sealer.open(sealed, context=_context(tenant, id))
    try:
        return _decode(plain)
    except msgspec.DecodeError:
        pass  # half a surrogate pair, which JSON can say and this decoder does not read
    try:
        return msgspec.convert(json.loads(plain), Inputs)
    except (ValueError, RecursionError) as error:
        raise SealBroken("the inputs of a decision cannot be read") from error


def new_id(at: datetime) -> uuid.UUID:
    """Of version 7, with the microseconds in it: the order of ids is that of `at`."""
    return uuid.UUID(int=_first(at) | secrets.randbits(62))


def first_id(at: datetime) -> uuid.UUID:
    """No id of then or later comes before it."""
    return uuid.UUID(int=_first(at))


def _first(at: datetime) -> int:
    microseconds = max(0, (at - _EPOCH) // _MICROSECOND)
    milliseconds, rest = divmod(microseconds, 1000)
    return milliseconds << 80 | 7 << 76 | (rest * 4096 // 1000) << 64 | 2 << 62


def bounded_text(value: str) -> str:
    """As it stands in a column."""
    encoded = value.replace("\0", "\\0").encode("utf-8", "backslashreplace")
    return encoded[:_TEXT_BYTES_MAX].decode("utf-8", "ignore")


_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
_MICROSECOND = timedelta(microseconds=1)


def _context(tenant: str, id: str) -> str:
    return f"{tenant}|policy-decision|{id}"


def _line(decided: Decided, sealed: bytes) -> Line:
    engine = Arn.parse(decided.engine_arn)
    return Line(
        tenant=decided.tenant,
        id=decided.id,
        at=decided.at,
        request_id=decided.request_id,
        gateway_id=decided.gateway_id,
        gateway_arn=decided.gateway_arn,
        engine_id=engine.resource.rpartition("/")[2] if engine else decided.engine_arn,
        engine_version=decided.engine_version,
        schema_version=decided.schema_version,
        mode=decided.mode,
        tool=decided.tool,
        target=decided.target,
        principal=decided.principal,
        principal_type=decided.principal_type,
        principal_kind=decided.principal_kind,
        user=decided.user,
        allowed=decided.allowed,
        policies=decided.policies[:_POLICIES_MAX],
        errors=len(decided.errors),
        shadow_allowed=decided.shadow_allowed,
        shadow_policies=decided.shadow_policies[:_POLICIES_MAX],
        microseconds=decided.microseconds,
        sealed_inputs=sealed,
    )


def _bounded(line: Line) -> Line:
    changed: dict[str, Any] = {}
    for name in line.__struct_fields__:
        value = getattr(line, name)
        if isinstance(value, str):
            changed[name] = bounded_text(value)
        elif name in ("policies", "shadow_policies"):
            changed[name] = [bounded_text(each) for each in value]
    return msgspec.structs.replace(line, **changed)


def _plain(decided: Decided) -> bytes:
    errors = [error[:2000] for error in decided.errors[:_ERRORS_MAX]]
    principal = decided.principal
    whole = None if principal.isprintable() and len(principal) <= 250 else principal
    kept = Inputs(decided.arguments, decided.claims, decided.context, errors, whole)  # type: ignore[arg-type]
    plain = _json(kept)
    if plain is not None and len(plain) <= INPUT_BYTES_MAX:
        return plain
    omitted = len(plain) if plain is not None else INPUT_BYTES_MAX + 1
    for claims, context in ((kept.claims, kept.context), (None, None)):
        less = _json(Inputs(None, claims, context, errors, None, omitted))
        if less is not None and len(less) <= INPUT_BYTES_MAX:
            return less
    return _encode(Inputs(None, None, None, [], None, omitted))


def _json(inputs: Inputs) -> bytes | None:
    """None for what is nested too deep to be written down."""
    try:
        try:
            return _encode(inputs)
        except UnicodeEncodeError:
            return json.dumps(msgspec.to_builtins(inputs), default=float).encode()
    except RecursionError:
        return None
