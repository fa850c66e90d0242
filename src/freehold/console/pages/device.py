"""A device's sign-in, such as `freehold login`, approved by a person in their browser."""

from datetime import datetime
from urllib.parse import urlsplit

import msgspec

from freehold.console.answer import Answer, GoTo, Leaving, Outcome, Page
from freehold.console.routes import Route
from freehold.console.visit import Visit
from freehold.kernel.errors import NotFound, Throttled, ValidationFailed
from freehold.ports.sign_in import DeviceRequest, Devices

_PATH = "/console/device"
_TYPED = f"{_PATH}/code"
_CODE_CHARS_MAX = 40


class CodeForm(msgspec.Struct, frozen=True, kw_only=True):
    code: str = ""
    problem: str = ""


class DeviceAsks(msgspec.Struct, frozen=True, kw_only=True):
    code: str
    description: str
    source: str
    nearby: bool
    same_address: bool
    """The device asks from the address that this browser has."""
    expires_at: datetime
    tenant: str


class DevicePages:
    def __init__(self, devices: Devices) -> None:
        self._devices = devices

    def routes(self) -> list[Route]:
        return [
            Route(method="GET", path=_PATH, act=self.show, operation="GetDeviceRequest"),
            Route(method="POST", path=_PATH, act=self.answer, operation="AnswerDeviceRequest"),
            Route(method="POST", path=_TYPED, act=self.typed, operation="GetDeviceRequest"),
            Route(method="GET", path=_TYPED, act=self.back_to_form, operation="GetDeviceRequest"),
        ]

    async def show(self, visit: Visit) -> Answer:
        """By a link with a code comes only who has the device at hand: of all others the code must
        be typed, or a link of a stranger's would do to have somebody approve their device."""
        code = visit.query.get("code", "").strip()
        if not code:
            return _code_form(CodeForm(), 200)
        found = await self._find(code, visit)
        if isinstance(found, Page):
            return found
        return _confirm(found, visit) if found.nearby else _code_form(CodeForm(), 200)

    async def typed(self, visit: Visit) -> Answer:
        code = visit.form.get("code", "").strip()
        if not code:
            return _code_form(CodeForm(), 200)
        found = await self._find(code, visit)
        return found if isinstance(found, Page) else _confirm(found, visit)

    async def back_to_form(self, visit: Visit) -> Answer:
        return GoTo(location=_PATH)

    async def _find(self, code: str, visit: Visit) -> DeviceRequest | Page:
        if len(code) > _CODE_CHARS_MAX:
            return _unknown(code[:_CODE_CHARS_MAX])
        try:
            return await self._devices.pending(code, visit.person)
        except NotFound:
            return _unknown(code)
        except Throttled as error:
            problem = "Too many codes that nobody asked with. Wait a few minutes, then try again."
            return _code_form(CodeForm(code=code, problem=problem), error.status)

    async def answer(self, visit: Visit) -> Answer:
        code, answer = visit.form.get("code", ""), visit.form.get("answer")
        if answer not in ("approve", "deny") or len(code) > _CODE_CHARS_MAX:
            raise ValidationFailed("the answer is approve or deny")
        visit.noted["answer"] = answer
        try:
            if answer == "deny":
                await self._devices.deny(code, visit.person)
                text = "The device was told no, and gets nothing."
                return _outcome("denied", "Denied", text)
            approved = await self._devices.approve(code, visit.person)
        except NotFound:
            return _unknown(code)
        if approved.redirect is not None:
            return leaving(approved.redirect, "the program that asked")
        return _outcome(
            "approved",
            "Signed in",
            "The device is signed in as you. You can close this window.",
            good=True,
        )


def leaving(location: str, to: str) -> Page:
    """To another origin, after a form. `to` is what people call it."""
    parts = urlsplit(location)
    assert parts.scheme in ("http", "https") and parts.hostname, "a browser is sent to the web only"
    return Page(
        template="leaving.html", title=f"On to {to}", data=Leaving(location=location, to=to)
    )


def _confirm(asked: DeviceRequest, visit: Visit) -> Page:
    return Page(
        template="device_confirm.html",
        title="Sign in on a device?",
        data=DeviceAsks(
            code=asked.user_code,
            description=asked.description,
            source=asked.source,
            nearby=asked.nearby,
            same_address=asked.source == visit.source,
            expires_at=asked.expires_at,
            tenant=visit.person.tenant,
        ),
    )


def _unknown(code: str) -> Page:
    problem = (
        "Nobody asked with this code, or it has expired or been answered. "
        "Compare it with what the device shows, or start there again."
    )
    return _code_form(CodeForm(code=code, problem=problem), 404)


def _code_form(form: CodeForm, status: int) -> Page:
    return Page(template="device.html", title="Connect a device", data=form, status=status)


def _outcome(outcome: str, heading: str, text: str, *, good: bool = False) -> Page:
    return Page(
        template="outcome.html",
        title=heading,
        data=Outcome(outcome=outcome, heading=heading, text=text, good=good),
    )
