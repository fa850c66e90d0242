"""Access keys: who calls from programs. A new key's secret is on one page, once."""

from typing import Any

import msgspec

from freehold.console.answer import Answer, GoTo, Page
from freehold.console.ports import Platform
from freehold.console.routes import Route
from freehold.console.visit import Visit
from freehold.kernel.errors import FreeholdError, ValidationFailed

LIST = "/console/keys"
PERSON_ROLES = {
    "admin": "everything in this account",
    "developer": "make and change agents, gateways, memories",
    "operator": "run, stop and look into what is there",
    "invoker": "call agents and tools",
    "auditor": "read all, the audit too, and change nothing",
}
ROLES = {**PERSON_ROLES, "ingester": "send telemetry, and nothing else"}
_OWN = "/freehold/v1/keys"
_DESCRIPTION_CHARS_MAX = 200
_DONE = {
    "disabled": "The key is disabled: nobody is let in with it.",
    "enabled": "The key is good again.",
    "deleted": "The key is gone for good.",
}


class Keys(msgspec.Struct, frozen=True, kw_only=True):
    keys: list[dict[str, Any]]
    roles: dict[str, str]
    done: str = ""
    problem: str = ""
    tab: str = "keys"


class NewKey(msgspec.Struct, frozen=True, kw_only=True):
    """The one page that has the secret. Its `repr` has not."""

    key: dict[str, Any]

    def __repr__(self) -> str:
        return "NewKey(...)"


class KeyPages:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def routes(self) -> list[Route]:
        return [
            Route(method="GET", path=LIST, act=self.listing, operation="ReadAccessKeys"),
            Route(method="POST", path=LIST, act=self.make, operation="CreateAccessKey"),
            Route(
                method="POST", path=f"{LIST}/{{key}}", act=self.change,
                operation="ChangeAccessKey",
            ),
        ]  # fmt: skip

    async def listing(self, visit: Visit, refused: FreeholdError | None = None) -> Answer:
        found = await self._platform.get(visit, _OWN)
        data = Keys(
            keys=found["keys"], roles=ROLES, done=_DONE.get(visit.query.get("done", ""), ""),
            problem="" if refused is None else refused.message,
        )  # fmt: skip
        status = 200 if refused is None else refused.status
        return Page(template="keys.html", title="Keys", data=data, status=status)

    async def make(self, visit: Visit) -> Answer:
        description = visit.form.get("description", "").strip()
        roles = chosen_roles(visit)
        visit.noted["roles"] = " ".join(roles)
        try:
            if not roles:
                raise ValidationFailed("choose at least one role: a key without one opens nothing")
            if len(description) > _DESCRIPTION_CHARS_MAX:
                raise ValidationFailed(
                    f"what it is for has {_DESCRIPTION_CHARS_MAX} characters at most"
                )
            key = await self._platform.post(
                visit, _OWN, {"description": description, "roles": roles}
            )
        except FreeholdError as error:
            return await self.listing(visit, error)
        visit.noted["access_key_id"] = key["accessKeyId"]
        return Page(template="key_made.html", title="A new key", data=NewKey(key=key))

    async def change(self, visit: Visit) -> Answer:
        id, what = visit.params["key"], visit.form.get("what")
        visit.noted.update(access_key_id=id[:100], what=str(what)[:20])
        try:
            if what == "delete":
                await self._platform.delete(visit, f"{_OWN}/{{id}}", id=id)
                return GoTo(location=f"{LIST}?done=deleted")
            if what not in ("disable", "enable"):
                raise ValidationFailed("a key is disabled, enabled or deleted")
            status = "Inactive" if what == "disable" else "Active"
            await self._platform.patch(visit, f"{_OWN}/{{id}}", {"status": status}, id=id)
        except FreeholdError as error:
            return await self.listing(visit, error)
        return GoTo(location=f"{LIST}?done={what}d")


def chosen_roles(visit: Visit) -> list[str]:
    return [role for role in ROLES if visit.form.get(f"role.{role}")]
