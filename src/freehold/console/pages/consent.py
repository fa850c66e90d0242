"""An agent asks for access to a person's account at a provider: who asks for what, yes or no."""

import msgspec

from freehold.console.answer import Answer, GoTo, Outcome, Page
from freehold.console.pages.device import leaving
from freehold.console.routes import Route
from freehold.console.viewer import name_of
from freehold.console.visit import Visit
from freehold.kernel.errors import AccessDenied, Conflict, ValidationFailed
from freehold.ports.consent import ConsentAsked, Consents

PATH = "/console/consent/{id}"


class Mismatch(msgspec.Struct, frozen=True, kw_only=True):
    """Data of `consent_mismatch.html`. Says nothing of the request: it is somebody else's."""

    signed_in_as: str
    tenant: str
    outcome: str = "other_person"


class ConsentPages:
    def __init__(self, consents: Consents) -> None:
        self._consents = consents

    def routes(self) -> list[Route]:
        return [
            Route(method="GET", path=PATH, act=self.show, operation="GetConsent"),
            Route(method="POST", path=PATH, act=self.answer, operation="AnswerConsent"),
        ]

    async def show(self, visit: Visit) -> Answer:
        try:
            asked = await self._consents.asked(visit.params["id"], visit.person)
        except AccessDenied:
            return _mismatch(visit)
        if asked.status in ("ASKED", "UNDER_WAY"):
            return Page(template="consent.html", title="An agent asks for access", data=asked)
        return _outcome(asked)

    async def answer(self, visit: Visit) -> Answer:
        id, answer = visit.params["id"], visit.form.get("answer")
        if answer not in ("allow", "deny"):
            raise ValidationFailed("the answer is allow or deny")
        visit.noted.update(answer=answer, consent=id)
        try:
            if answer == "allow":
                asked = await self._consents.asked(id, visit.person)
                location = await self._consents.approve(id, visit.person)
                return leaving(location, asked.account_host)
            await self._consents.deny(id, visit.person)
        except AccessDenied:
            return _mismatch(visit)
        except Conflict:
            pass  # The page says how it was settled.
        return GoTo(location=visit.address)


def _mismatch(visit: Visit) -> Page:
    return Page(
        template="consent_mismatch.html",
        title="This request is for somebody else",
        status=403,
        data=Mismatch(signed_in_as=name_of(visit.person), tenant=visit.person.tenant),
    )


def _outcome(asked: ConsentAsked) -> Page:
    where = asked.account_host
    outcome = asked.status.lower()
    heading, text = {
        "GRANTED": (
            "Access given",
            f"{asked.agent} can now use your account at {where}. You can close this window.",
        ),
        "DENIED": (
            "Access denied",
            f"{asked.agent} was told no, and got nothing. You can close this window.",
        ),
        "FAILED": (
            "That did not work",
            f"{where} gave no access to {asked.agent}. Ask it to try again. {asked.failure}",
        ),
        "EXPIRED": (
            "This request has expired",
            f"Nothing was given to {asked.agent}. If you still want it, ask it to try again.",
        ),
    }[asked.status]
    return Page(
        template="outcome.html",
        title=heading,
        data=Outcome(
            outcome=outcome, heading=heading, text=text.strip(), good=asked.status == "GRANTED"
        ),
    )
