"""The conditions of resource policies: IAM's operators and keys, as Cedar expressions.

As in IAM, a key that a request does not have fails every operator but the negated ones, which it
meets.
"""

import ipaddress
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, NoReturn

Refuse = Callable[[str], NoReturn]


class _Key(NamedTuple):
    """Where a condition key's value stands. `present` is an expression, or "" for always."""

    kind: Literal["string", "arn", "ip", "bool"]
    value: str
    present: str = ""


_KEYS = {
    "aws:PrincipalAccount": _Key("string", "principal.tenant"),
    "aws:PrincipalArn": _Key("arn", "principal.arn"),
    "aws:SecureTransport": _Key("bool", "context.encrypted"),
    "aws:SourceIp": _Key("ip", "context.ip", "context has ip"),
    "freehold:PrincipalKind": _Key("string", "principal.kind"),
    "freehold:User": _Key("string", "principal.user", "principal has user"),
}
_BY_NAME = {name.lower(): key for name, key in _KEYS.items()}

_STRINGS = frozenset({"string", "arn"})
# Operator -> (kinds of keys that it compares, how, whether it is negated).
_OPERATORS: dict[str, tuple[frozenset[str], str, bool]] = {
    "StringEquals": (_STRINGS, "equals", False),
    "StringNotEquals": (_STRINGS, "equals", True),
    "StringLike": (_STRINGS, "like", False),
    "StringNotLike": (_STRINGS, "like", True),
    "ArnEquals": (frozenset({"arn"}), "arn", False),
    "ArnNotEquals": (frozenset({"arn"}), "arn", True),
    "ArnLike": (frozenset({"arn"}), "arn", False),
    "ArnNotLike": (frozenset({"arn"}), "arn", True),
    "IpAddress": (frozenset({"ip"}), "ip", False),
    "NotIpAddress": (frozenset({"ip"}), "ip", True),
    "Bool": (frozenset({"bool"}), "bool", False),
}
_PARTS = ("partition", "service", "region", "account", "resource")


def condition(operator: str, name: str, asked: Any, refuse: Refuse) -> str:
    """One operator on one key: true where one of the values asked for is met."""
    found = _OPERATORS.get(operator)
    if found is None:
        refuse(f"Condition {operator!r} is not decided here; these are: {', '.join(_OPERATORS)}")
    kinds, how, negated = found
    key = _BY_NAME.get(name.lower())
    if key is None:
        refuse(f"Condition key {name!r} is not known here; these are: {', '.join(_KEYS)}")
    if key.kind not in kinds:
        refuse(f"Condition {operator} does not compare {name}")
    values = _values(asked, operator, refuse)
    met = " || ".join(_comparison(how, key, value, refuse) for value in values)
    positive = f"({key.present} && ({met}))" if key.present else f"({met})"
    return f"!{positive}" if negated else positive


def text(value: str, refuse: Refuse) -> str:
    """A string of Cedar's."""
    if not value.isprintable():
        refuse(f"{value!r} holds a character that cannot be printed")
    if "${" in value:
        refuse(f"{value!r}: policy variables are not known here")
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def like(pattern: str, refuse: Refuse) -> str:
    """A pattern of Cedar's, whose only wildcard is the star."""
    if "?" in pattern:
        refuse(f"{pattern!r}: only * is a wildcard here")
    return text(pattern, refuse)


def _values(asked: Any, operator: str, refuse: Refuse) -> Sequence[str]:
    values = asked if isinstance(asked, list) else [asked]
    texts = [str(v).lower() if isinstance(v, bool) else v for v in values]
    if not texts or not all(isinstance(value, str) for value in texts):
        refuse(f"Condition {operator}: the values must be strings, and at least one")
    return texts


def _comparison(how: str, key: _Key, value: str, refuse: Refuse) -> str:
    match how:
        case "equals":
            return f"{key.value} == {text(value, refuse)}"
        case "like":
            return f"{key.value} like {like(value, refuse)}"
        case "arn":
            return _arn(value, refuse)
        case "ip":
            return f'{key.value}.isInRange(ip("{_network(value, refuse)}"))'
        case _:
            if value not in ("true", "false"):
                refuse(f"Bool: {value!r} is neither true nor false")
            return key.value if value == "true" else f"!{key.value}"


def _arn(pattern: str, refuse: Refuse) -> str:
    """Part by part: a star never reaches across a colon, but for those of the last part."""
    parts = pattern.split(":", 5)
    if len(parts) != 6 or parts[0] != "arn":
        refuse(f"{pattern!r} is not an ARN of six parts")
    compared = [
        f"principal.parts.{name} like {like(part, refuse)}"
        for name, part in zip(_PARTS, parts[1:], strict=True)
        if part != "*"
    ]
    return f"({' && '.join(compared) or 'true'})"


def _network(value: str, refuse: Refuse) -> str:
    try:
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError:
        refuse(f"{value!r} is neither an IP address nor a range of them")
