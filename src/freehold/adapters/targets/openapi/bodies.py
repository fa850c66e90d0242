"""Request bodies: JSON, forms, parts, bytes, text."""

import base64
import binascii
import re
import secrets
from typing import Any
from urllib.parse import quote

import msgspec

from freehold.adapters.targets.openapi import styles
from freehold.adapters.targets.openapi.plan import BodyPlan, PartPlan
from freehold.adapters.targets.openapi.styles import BadArgument

Json = dict[str, Any]

_PLAIN = PartPlan()
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def body(plan: BodyPlan, arguments: Json) -> tuple[bytes, str] | None:
    """The body and its type, or None where there is none to send. Raises BadArgument."""
    value = _value(plan, arguments)
    if value is None and not plan.required and plan.argument not in arguments:
        return None
    if plan.kind in ("form", "multipart") and not isinstance(value, dict | None):
        raise BadArgument(f'The argument "{plan.argument}" has to be an object.')
    match plan.kind:
        case "json":
            return msgspec.json.encode(value), plan.media
        case "form":
            return _form(plan, value or {}), plan.media
        case "multipart":
            return _multipart(plan, value or {}, arguments)
        case "bytes":
            return _decoded(plan.argument, value or ""), plan.media
    return _utf8(styles.text(value)), plan.media


def _value(plan: BodyPlan, arguments: Json) -> Any:
    if plan.argument:
        return arguments.get(plan.argument)
    members = plan.members
    found = {name: arguments[given] for given, name in members.items() if given in arguments}
    return found if found or plan.required else None


def _form(plan: BodyPlan, value: Json) -> bytes:
    pairs: list[str] = []
    for name, inner in value.items():
        part = plan.parts.get(name, _PLAIN)
        key = quote(name, safe="")
        if part.style:
            safe = ":/?@!$'()*," if part.reserved else ""
            pairs += styles.pairs(key, inner, part.style, explode=part.explode, safe=safe)
        elif isinstance(inner, list) and "json" not in part.media:
            pairs += [f"{key}={quote(styles.text(item), safe='')}" for item in inner]
        elif "json" in part.media:
            pairs.append(f"{key}={quote(msgspec.json.encode(inner).decode(), safe='')}")
        else:
            pairs.append(f"{key}={quote(styles.text(inner), safe='')}")
    return "&".join(pairs).encode()


def _multipart(plan: BodyPlan, value: Json, arguments: Json) -> tuple[bytes, str]:
    boundary = f"freehold-{secrets.token_hex(16)}"
    found = bytearray()
    for name, inner in value.items():
        part = plan.parts.get(name, _PLAIN)
        whole = "json" in part.media and not part.binary
        for item in inner if isinstance(inner, list) and not whole else [inner]:
            content, type_ = _content(name, part, item)
            disposition = f'form-data; name="{_escaped(name)}"'
            if part.binary:
                filename = str(arguments.get(part.filename) or name) if part.filename else name
                disposition += f'; filename="{_escaped(filename)}"'
            found += f"--{boundary}\r\nContent-Disposition: {disposition}\r\n".encode()
            if type_:
                found += f"Content-Type: {type_}\r\n".encode()
            found += b"\r\n" + content + b"\r\n"
    found += f"--{boundary}--\r\n".encode()
    # A subtype of its own (multipart/related, mixed) keeps it.
    return bytes(found), f"{plan.media}; boundary={boundary}"


def _content(name: str, part: PartPlan, item: Any) -> tuple[bytes, str]:
    if part.binary:
        return _decoded(name, item), part.media or "application/octet-stream"
    if isinstance(item, dict | list) or "json" in part.media:
        return msgspec.json.encode(item), part.media or "application/json"
    return _utf8(styles.text(item)), part.media


def _decoded(name: str, value: Any) -> bytes:
    try:
        return base64.b64decode("".join(str(value).split()), validate=True)
    except (binascii.Error, ValueError):
        raise BadArgument(
            f'The argument "{name}" is sent as bytes: it has to be base64 text.'
        ) from None


def _utf8(value: str) -> bytes:
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise BadArgument("A text has half of a surrogate pair in it, which is none.") from None


def _escaped(name: str) -> str:
    """As browsers write names: nothing in one ends the header or the quotes."""
    name = name.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")
    return _CONTROL.sub("", name).encode(errors="replace").decode()
