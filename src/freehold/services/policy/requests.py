"""A call as Cedar sees it: who, what, on which gateway, with which arguments, when and from where.

Only what the schema describes is handed on, each value in the form of its type: whatever a client
writes stays data.
"""

import ipaddress
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal, InvalidOperation
from functools import lru_cache
from typing import Any

import msgspec

from freehold.kernel.caller import Caller, CallerKind
from freehold.ports.enforcement import GovernedCall, GovernedGateway
from freehold.ports.policies import Entity, PolicyRequest, Uid
from freehold.services.policy.inputs import InputType, RecordOf, Scalar, SetOf
from freehold.services.policy.schema import (
    ACTION,
    ANONYMOUS,
    GATEWAY,
    IAM_ENTITY,
    OAUTH_USER,
    GatewaySchema,
)

LONG_MIN, LONG_MAX = -(2**63), 2**63 - 1
_UNIT = Decimal("0.0001")
_DECIMAL_MIN, _DECIMAL_MAX = LONG_MIN * _UNIT, LONG_MAX * _UNIT
_ROUNDING = Context(prec=40)


class SchemaMismatch(ValueError):
    """What cannot be expressed, in words for people; never with a value of the call."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """All `requests` must be allowed. There are two where some number has more decimal places than
    Cedar's: with such numbers rounded down, and rounded up."""

    requests: Sequence[PolicyRequest]
    entities: Sequence[Entity]


def asked_of(call: GovernedCall, schema: GatewaySchema, at: datetime) -> Asked:
    """Raises SchemaMismatch."""
    return asked(
        schema,
        call.tool.name,
        principal=caller_entity(call.caller),
        resource=gateway_entity(call.gateway),
        arguments=call.arguments,
        context=context_of(call.caller, at, source=call.source, session=call.session),
    )


def asked(
    schema: GatewaySchema,
    tool: str,
    *,
    principal: Entity,
    resource: Entity,
    arguments: Mapping[str, Any],
    context: Mapping[str, Any],
) -> Asked:
    """`context` is Cedar's without `input`. Raises SchemaMismatch."""
    type = schema.inputs.get(tool)
    if type is None:
        raise SchemaMismatch("policies cannot speak of this tool")
    if principal.uid.type not in schema.principal_types:
        raise SchemaMismatch("policies of this gateway cannot speak of this kind of caller")
    down = _Mapping(ROUND_FLOOR)
    inputs = [down.record(type, arguments, "input")]
    if down.rounded:
        inputs.append(_Mapping(ROUND_CEILING).record(type, arguments, "input"))
    requests = [
        PolicyRequest(
            principal=principal.uid,
            action=Uid(ACTION, tool),
            resource=resource.uid,
            context={**context, "input": input},
        )
        for input in inputs
    ]
    return Asked(requests=requests, entities=[principal, resource])


def caller_entity(caller: Caller) -> Entity:
    if caller.kind is CallerKind.OAUTH_USER:
        subject = caller.claims.get("sub")
        id = subject if isinstance(subject, str) and subject else caller.principal
        return principal_entity(OAUTH_USER, id, caller.claims)
    if caller.kind is CallerKind.ANONYMOUS:
        return principal_entity(ANONYMOUS, "anonymous")
    return principal_entity(IAM_ENTITY, caller.principal)


def principal_entity(type: str, id: str, claims: Mapping[str, Any] | None = None) -> Entity:
    """Also of what a record of a decision says: `claims` count for OAuth users only."""
    uid = Uid(type, id)
    if type == ANONYMOUS:
        return Entity(uid=uid)
    if type != OAUTH_USER:
        return Entity(uid=uid, attributes={"id": id})
    return Entity(uid=uid, attributes={"id": id}, tags=dict(_tags(claims or {})))


def gateway_entity(gateway: GovernedGateway) -> Entity:
    return Entity(
        uid=Uid(GATEWAY, gateway.arn), attributes={"id": gateway.arn, "name": gateway.name}
    )


def context_of(caller: Caller, at: datetime, *, source: str, session: str) -> dict[str, Any]:
    """Cedar's context without `input`. Raises SchemaMismatch."""
    time = at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    moment = _extension("datetime", time)
    context: dict[str, Any] = {"time": moment, "system": {"now": moment}}
    if source:
        context["source"] = _extension("ip", _address(source))
    if described := _session(caller, session):
        context["session"] = described
    return context


def _session(caller: Caller, session: str) -> dict[str, str]:
    described = {"id": session} if session else {}
    if caller.kind is CallerKind.SESSION:
        agent, _, id = caller.principal.partition("/session/")
        described = {"id": id or session, "agent": agent}
    if described and caller.user is not None:
        described["user"] = caller.user
    return described


@lru_cache(maxsize=4096)
def _address(source: str) -> str:
    try:
        address = ipaddress.ip_address(source.partition("%")[0])
    except ValueError:
        raise SchemaMismatch("where the call came from is no IP address") from None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(address)


def _extension(function: str, argument: str) -> dict[str, Any]:
    return {"__extn": {"fn": function, "arg": argument}}


def _tags(claims: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Cedar's tags are strings. A claim that is null says nothing."""
    for name, value in claims.items():
        if isinstance(value, str):
            yield name, value
        elif value is not None:
            yield name, msgspec.json.encode(value).decode()


class _Mapping:
    """One reading of a call's arguments, with numbers rounded one way."""

    def __init__(self, rounding: str) -> None:
        self._rounding = rounding
        self.rounded = False

    def record(self, type: RecordOf, value: Any, path: str) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise SchemaMismatch(f"{path}: an object is needed")
        mapped: dict[str, Any] = {}
        for name, attribute in type.attributes.items():
            given = value.get(name)
            if given is not None:
                mapped[name] = self._value(attribute.type, given, f"{path}.{name}")
            elif attribute.required:
                raise SchemaMismatch(f"{path}.{name}: it is needed")
        return mapped

    def _value(self, type: InputType, value: Any, path: str) -> Any:
        if isinstance(type, RecordOf):
            return self.record(type, value, path)
        if isinstance(type, SetOf):
            if not isinstance(value, list | tuple):
                raise SchemaMismatch(f"{path}: a list is needed")
            return [self._value(type.of, each, f"{path}[]") for each in value]
        return self._scalar(type, value, path)

    def _scalar(self, type: Scalar, value: Any, path: str) -> Any:
        if type.name == "String":
            if not isinstance(value, str):
                raise SchemaMismatch(f"{path}: a text is needed")
            return value
        if type.name == "Bool":
            if not isinstance(value, bool):
                raise SchemaMismatch(f"{path}: true or false is needed")
            return value
        if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
            raise SchemaMismatch(f"{path}: a number is needed")
        if not isinstance(value, int) and not math.isfinite(value):
            raise SchemaMismatch(f"{path}: a number is needed")
        return _long(value, path) if type.name == "Long" else self._decimal(value, path)

    def _decimal(self, value: int | float | Decimal, path: str) -> dict[str, Any]:
        """A float counts as its shortest text, which is what the client wrote, or next to it."""
        exact = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
        if not _DECIMAL_MIN <= exact <= _DECIMAL_MAX:
            raise SchemaMismatch(f"{path}: the number is too large")
        try:
            rounded = exact.quantize(_UNIT, rounding=self._rounding, context=_ROUNDING)
        except InvalidOperation:
            raise SchemaMismatch(f"{path}: the number is too long") from None
        self.rounded = self.rounded or rounded != exact
        return _extension("decimal", f"{rounded or _ZERO:f}")


_ZERO = Decimal("0.0")
"""A negative one is none in Cedar."""


def _long(value: int | float | Decimal, path: str) -> int:
    if value != int(value):
        raise SchemaMismatch(f"{path}: a whole number is needed")
    if not LONG_MIN <= int(value) <= LONG_MAX:
        raise SchemaMismatch(f"{path}: the number is larger than 64 bits")
    return int(value)
