"""Resource policies as AWS writes them (IAM's JSON), put into Cedar.

What cannot be decided here is refused when the policy is put, never ignored: an ignored condition
would let in whom it was to keep out.
"""

import json
from fnmatch import translate
from re import IGNORECASE, fullmatch
from typing import Any, Literal, NoReturn

import msgspec

from freehold.kernel.arns import Arn
from freehold.kernel.errors import ValidationFailed
from freehold.services.access import conditions
from freehold.services.access.actions import SHAREABLE
from freehold.services.access.conditions import like, text
from freehold.services.access.model import is_tenant
from freehold.services.access.schema import ACTION

STATEMENTS_MAX = 50

_VERSION = "2012-10-17"
Values = str | list[str]


class Statement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The members have AWS's names. Those that are missing here (NotPrincipal, NotAction,
    NotResource) are not decided here."""

    Effect: Literal["Allow", "Deny"]
    Principal: str | dict[str, Values]
    Action: Values
    Resource: Values
    Sid: str = ""
    Condition: dict[str, dict[str, Any]] = {}


class PolicyDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    Version: str
    Statement: "list[Statement] | Statement"
    Id: str = ""


def to_cedar(policy: str, *, arn: str) -> str:
    """The Cedar policies of the resource `arn`. Raises ValidationFailed, in words for the author
    of the policy."""
    document = _parse(policy)
    if document.Version != _VERSION:
        raise ValidationFailed(f'policy: Version must be "{_VERSION}"')
    found = document.Statement
    statements = found if isinstance(found, list) else [found]
    if not 0 < len(statements) <= STATEMENTS_MAX:
        raise ValidationFailed(f"policy: Statement must have 1 to {STATEMENTS_MAX} members")
    sids = [statement.Sid for statement in statements if statement.Sid]
    if len(set(sids)) != len(sids):
        raise ValidationFailed("policy: two statements have the same Sid")
    return "\n\n".join(
        _Translation(f"policy: statement {number}", statement, arn).cedar(f"statement {number}")
        for number, statement in enumerate(statements, start=1)
    )


def _parse(policy: str) -> PolicyDocument:
    try:
        return msgspec.convert(json.loads(policy, object_pairs_hook=_once), PolicyDocument)
    except msgspec.ValidationError as error:
        raise ValidationFailed(f"policy: {error}") from error
    except (ValueError, RecursionError) as error:
        raise ValidationFailed(f"policy: this is not JSON: {error}") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member stands twice in one object")
    return members


class _Translation:
    """Of one statement."""

    def __init__(self, where: str, statement: Statement, arn: str) -> None:
        self._where = where
        self._statement = statement
        self._arn = arn

    def cedar(self, id: str) -> str:
        effect = "permit" if self._statement.Effect == "Allow" else "forbid"
        actions = ", ".join(f'{ACTION}::"{action}"' for action in self._actions())
        clauses = [self._principals(), self._resources(), *self._conditions()]
        body = "".join(f"\nwhen {{ {clause} }}" for clause in clauses if clause)
        return f'@id("{id}")\n{effect} (principal, action in [{actions}], resource){body};'

    def _actions(self) -> list[str]:
        asked = _values(self._statement.Action)
        found: dict[str, None] = {}
        for pattern in asked:
            regex = translate(pattern.replace("[", "[[]"))
            matching = [id for id in SHAREABLE if fullmatch(regex, id, IGNORECASE)]
            if not matching:
                self._refuse(
                    f"Action {pattern!r} is not one that a resource's policy decides on here; "
                    f"these are: {', '.join(SHAREABLE)}"
                )
            found.update(dict.fromkeys(matching))
        return list(found) or self._refuse("Action is empty")

    def _principals(self) -> str:
        """An empty text for everybody."""
        asked = self._statement.Principal
        if isinstance(asked, dict):
            if asked.keys() != {"AWS"}:
                self._refuse('Principal must be "*" or {"AWS": ...}')
            principals = _values(asked["AWS"])
        else:
            principals = [asked]
            if asked != "*":
                self._refuse('Principal must be "*" or {"AWS": ...}')
        if "*" in principals:
            return ""
        found = [self._principal(principal) for principal in principals]
        return " || ".join(found) or self._refuse("Principal is empty")

    def _principal(self, principal: str) -> str:
        if is_tenant(principal):
            return f"principal.tenant == {self._text(principal)}"
        arn = Arn.parse(principal)
        if arn is None or not is_tenant(arn.tenant) or "*" in principal or "?" in principal:
            self._refuse(
                f"Principal {principal!r} is neither an account of 12 digits nor the ARN of a "
                "principal; ARNs by pattern belong in a Condition (ArnLike on aws:PrincipalArn)"
            )
        if arn.service == "iam" and arn.resource == "root":
            return f"principal.tenant == {self._text(arn.tenant)}"
        if arn.service == "bedrock-agentcore" and arn.resource.startswith("runtime/"):
            runtime = self._text(principal)
            return f"(principal has runtime && principal.runtime == {runtime})"
        is_gateway = arn.service == "bedrock-agentcore" and arn.resource.startswith("gateway/")
        if arn.service != "iam" and not is_gateway:
            self._refuse(f"Principal {principal!r}: no caller has an ARN of {arn.service}")
        return f"principal.arn == {self._text(principal)}"

    def _resources(self) -> str:
        """An empty text where the statement is about all of the resource."""
        asked = _values(self._statement.Resource)
        if not asked:
            self._refuse("Resource is empty")
        for pattern in asked:
            if "?" in pattern or "${" in pattern:
                self._refuse(f"Resource {pattern!r}: only * is a wildcard here")
            if not fullmatch(translate(pattern.replace("[", "[[]")), self._arn):
                self._refuse(f"Resource {pattern!r} is not the policy's own resource, {self._arn}")
        return " || ".join(f"resource.arn like {like(p, self._refuse)}" for p in asked)

    def _conditions(self) -> list[str]:
        return [
            conditions.condition(operator, key, values, self._refuse)
            for operator, keys in self._statement.Condition.items()
            for key, values in keys.items()
        ]

    def _text(self, value: str) -> str:
        return text(value, self._refuse)

    def _refuse(self, problem: str) -> NoReturn:
        raise ValidationFailed(f"{self._where}: {problem}")


def _values(asked: Values) -> list[str]:
    return [asked] if isinstance(asked, str) else asked
