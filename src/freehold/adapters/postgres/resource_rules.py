"""What the resources repository refuses, and its page tokens. No SQL."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import psycopg

from freehold.kernel.errors import Conflict, NotFound, QuotaExceeded, ValidationFailed
from freehold.kernel.pages import PAGE_ITEMS_DEFAULT, PAGE_ITEMS_MAX, decode_token, encode_token
from freehold.ports.resources import Resource, ResourceKind

TAGS_MAX = 50
VERSION_MAX = 2**63 - 1


@contextmanager
def storable() -> Iterator[None]:
    """What Postgres cannot hold is the request's fault: NUL characters, lone surrogates."""
    try:
        yield
    except (psycopg.DataError, UnicodeEncodeError) as error:
        raise ValidationFailed("a text or number of the request cannot be stored") from error


def absent(kind: ResourceKind, id: str, version: int | None = None) -> NotFound:
    at = "" if version is None else f" version {version}"
    return NotFound(f"{kind.noun} {id!r}{at} does not exist")


def check_idle(kind: ResourceKind, current: Resource) -> None:
    if current.status in kind.busy:
        raise Conflict(
            f"{kind.noun} {current.id!r} is in status {current.status}; "
            "wait until it has left that status"
        )


def check_tags(added: Iterable[str], after: dict[str, str]) -> None:
    """`added` are the keys that a request names, `after` all tags that would result."""
    reserved = [key for key in added if key.lower().startswith("aws:")]
    if reserved:
        raise ValidationFailed(f"tag keys that begin with aws: are reserved: {reserved[0]!r}")
    if len(after) > TAGS_MAX:
        raise QuotaExceeded(f"a resource has at most {TAGS_MAX} tags")


def page_items(limit: int | None) -> int:
    return PAGE_ITEMS_DEFAULT if limit is None else max(1, min(limit, PAGE_ITEMS_MAX))


def page_token(last: Resource) -> str:
    return encode_token(last.kind, last.created_at.isoformat(), last.parent, last.id)


def page_position(token: str, kind: ResourceKind) -> dict[str, Any]:
    match decode_token(token):
        case [kind.name, str(time), str(parent), str(id)]:
            try:
                after = datetime.fromisoformat(time)
            except ValueError:
                raise _foreign_token() from None
            return {"after_time": after, "after_parent": parent, "after_id": id}
    raise _foreign_token()


def version_token(last: Resource) -> str:
    return encode_token(last.kind, last.id, last.version)


def version_position(token: str, kind: ResourceKind, id: str) -> int:
    match decode_token(token):
        case [kind.name, str(of), int(version)] if of == id and 0 < version <= VERSION_MAX:
            return version
    raise _foreign_token()


def _foreign_token() -> ValidationFailed:
    return ValidationFailed("nextToken is not a token that this list returned")
