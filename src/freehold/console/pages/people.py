"""The people of the account, and their roles."""

from typing import Any

import msgspec

from freehold.console.answer import Answer, GoTo, Page
from freehold.console.pages.keys import LIST, PERSON_ROLES, chosen_roles
from freehold.console.ports import Platform
from freehold.console.routes import Route
from freehold.console.visit import Visit
from freehold.kernel.errors import FreeholdError, ValidationFailed

_PEOPLE = f"{LIST}/people"
_OWN = "/freehold/v1/people"
_DONE = {
    "roles": "The roles are changed, from the next request on.",
    "disabled": "Nobody gets in as this person.",
    "enabled": "This person may sign in again.",
    "added": "Added. They sign in with the provider.",
}


class People(msgspec.Struct, frozen=True, kw_only=True):
    people: list[dict[str, Any]]
    roles: dict[str, str]
    done: str = ""
    problem: str = ""
    tab: str = "people"


class NewPerson(msgspec.Struct, frozen=True, kw_only=True):
    """The one page that has the password. Its `repr` has not."""

    name: str
    password: str

    def __repr__(self) -> str:
        return "NewPerson(...)"


class PeoplePages:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def routes(self) -> list[Route]:
        return [
            Route(method="GET", path=_PEOPLE, act=self.listing, operation="ReadPeople"),
            Route(method="POST", path=_PEOPLE, act=self.add, operation="AddPerson"),
            Route(
                method="POST", path=f"{_PEOPLE}/{{person}}", act=self.change,
                operation="ChangePerson",
            ),
        ]  # fmt: skip

    async def listing(self, visit: Visit, refused: FreeholdError | None = None) -> Answer:
        found = await self._platform.get(visit, _OWN)
        data = People(
            people=found["people"], roles=PERSON_ROLES,
            done=_DONE.get(visit.query.get("done", ""), ""),
            problem="" if refused is None else refused.message,
        )  # fmt: skip
        status = 200 if refused is None else refused.status
        return Page(template="people.html", title="People", data=data, status=status)

    async def add(self, visit: Visit) -> Answer:
        name, email = visit.form.get("name", "").strip(), visit.form.get("email", "").strip()
        asked = {"name": name, "roles": chosen_roles(visit), **({"email": email} if email else {})}
        visit.noted["person"] = name[:100]
        try:
            made = await self._platform.post(visit, _OWN, asked)
        except FreeholdError as error:
            return await self.listing(visit, error)
        if made["password"] is None:
            return GoTo(location=f"{_PEOPLE}?done=added")
        data = NewPerson(name=made["person"]["name"], password=made["password"])
        return Page(template="person_made.html", title="A new person", data=data)

    async def change(self, visit: Visit) -> Answer:
        id, what = visit.params["person"], visit.form.get("what")
        visit.noted.update(person=id[:100], what=str(what)[:20])
        try:
            if what == "roles":
                body = {"roles": chosen_roles(visit)}
                await self._platform.put(visit, f"{_OWN}/{{id}}/roles", body, id=id)
                return GoTo(location=f"{_PEOPLE}?done=roles")
            if what not in ("disable", "enable"):
                raise ValidationFailed("a person is disabled, enabled or given roles")
            status = "Disabled" if what == "disable" else "Active"
            await self._platform.patch(visit, f"{_OWN}/{{id}}", {"status": status}, id=id)
        except FreeholdError as error:
            return await self.listing(visit, error)
        return GoTo(location=f"{_PEOPLE}?done={what}d")
