"""Sign-in of a command line: RFC 8628's device flow, and RFC 8252's answer on loopback with PKCE.

Both are one request here. A device shows a user code, somebody signed in gives their leave for it
on the console's page, and the device has its credentials with the device code that it alone knows.
With a port of its own it must show one thing more: a code that the browser brought to that port. So
nobody elsewhere can have credentials by talking somebody into giving leave.

Implements `ports.sign_in.Devices`.
"""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from datetime import datetime, timedelta
from urllib.parse import urlencode

import msgspec

from freehold.kernel import clock, ids
from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.errors import (
    AccessDenied,
    FreeholdError,
    NotFound,
    Throttled,
    ValidationFailed,
)
from freehold.ports.audit import Audit, AuditEvent
from freehold.ports.database import Connection, Database
from freehold.ports.sign_in import Approved, DeviceRequest
from freehold.services.people import device_store, store
from freehold.services.people.credentials import PersonKeys
from freehold.services.people.guesses import Guesses
from freehold.services.people.model import Credentials, Person, new_secret, sha256

PAGE = "/console/device"
LIFETIME = timedelta(minutes=10)
INTERVAL_SECONDS = 5
DEVICES_MAX = 10_000
DESCRIPTION_CHARS_MAX = 100
# RFC 8628 section 6.1: no vowels, so no words; 20^8 of them.
_ALPHABET = "BCDFGHJKLMNPQRSTVWXZ"
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
_STATE = re.compile(r"[A-Za-z0-9_-]{16,128}")
_CODES_SHOWN_MAX = 128


class StillPending(FreeholdError):
    code = "AuthorizationPending"
    status = 400


class SlowDown(FreeholdError):
    code = "SlowDown"
    status = 400


class DeviceOver(FreeholdError):
    """Expired, used or never known: callers cannot tell."""

    code = "ExpiredToken"
    status = 400


class Loopback(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True
):
    """Where the command line listens on 127.0.0.1, and what proves that it was the one to ask.

    `code_challenge` is S256 of RFC 7636; `state` comes back with the code.
    """

    port: int
    code_challenge: str
    state: str


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """`device_code` is the device's own secret; `user_code` is for people to see and type."""

    device_code: str
    user_code: str
    verification_url: str
    verification_url_complete: str | None
    seconds_max: int
    interval_seconds: int

    def __repr__(self) -> str:
        return "Started(...)"


class DeviceService:
    """`origin`: where people's browsers find the console."""

    def __init__(
        self,
        database: Database,
        *,
        first: str,
        keys: PersonKeys,
        origin: str,
        audit: Audit,
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        self._database = database
        self._first = first
        self._keys = keys
        self._page = origin + PAGE
        self._audit = audit
        self._now = now
        self._guesses = Guesses(database, now)

    async def start(
        self, description: str, *, source: str, loopback: Loopback | None = None
    ) -> Started:
        if len(description) > DESCRIPTION_CHARS_MAX or not description.isprintable():
            raise ValidationFailed(
                f"a description has at most {DESCRIPTION_CHARS_MAX} characters that can be printed"
            )
        _check_loopback(loopback)
        await self._guesses.at_start(self._first, source)
        now = self._now()
        device_code, user_code = new_secret(), _new_user_code()
        device = device_store.Device(
            tenant="",
            device_sha256=sha256(device_code),
            description=description,
            source=source,
            port=loopback.port if loopback else None,
            challenge=loopback.code_challenge if loopback else None,
            state=loopback.state if loopback else None,
            status="pending",
            person=None,
            code_sha256=None,
            interval_seconds=INTERVAL_SECONDS,
            polled_at=None,
            expires_at=now + LIFETIME,
        )
        async with self._database.connection() as connection:
            if not await device_store.insert(
                connection,
                device,
                user_code_sha256=sha256(user_code),
                now=now,
                devices_max=DEVICES_MAX,
            ):
                raise Throttled("too many sign-ins wait just now; try again shortly")
        shown = f"{user_code[:4]}-{user_code[4:]}"
        # Without loopback the code must be typed: a link that holds it is a way to fool somebody.
        complete = f"{self._page}?{urlencode({'code': shown})}" if loopback else None
        return Started(
            device_code=device_code,
            user_code=shown,
            verification_url=self._page,
            verification_url_complete=complete,
            seconds_max=int(LIFETIME.total_seconds()),
            interval_seconds=INTERVAL_SECONDS,
        )

    async def redeem(
        self, device_code: str, code: str = "", verifier: str = "", *, source: str = ""
    ) -> Credentials:
        """Once. Raises StillPending, SlowDown, DeviceOver, AccessDenied when leave was refused."""
        outcome = await self._redeemed(device_code, code, verifier)
        if isinstance(outcome, FreeholdError):
            raise outcome  # after the transaction: what it wrote stays
        person, tenant = outcome
        made = await self._keys.create(tenant, person.id, person.name)
        await self._audit.write(
            AuditEvent(
                tenant=tenant, call_id=ids.request_id(), phase="outcome", at=self._now(),
                operation="freehold:RedeemDeviceSignIn", kind=CallerKind.PERSON.value,
                principal=f"arn:aws:iam::{tenant}:user/{person.name}", user=person.name,
                source=source, outcome="allowed", status=200,
                detail={"accessKeyId": made.access_key_id},
            )
        )  # fmt: skip
        return made

    async def _redeemed(
        self, device_code: str, code: str, verifier: str
    ) -> tuple[Person, str] | FreeholdError:
        now = self._now()
        async with self._database.transaction() as connection:
            device = await device_store.by_device(connection, sha256(device_code), now)
            if device is None:
                return DeviceOver("this sign-in is over; begin again")
            # With a port of its own it may ask before the browser has brought the code.
            early = device.status == "approved" and device.challenge is not None and not code
            if device.status == "pending" or early:
                return await self._still_pending(connection, device, now)
            await device_store.delete(connection, device.device_sha256)
            if device.status != "approved" or device.person is None:
                return AccessDenied("the sign-in was refused")
            if device.challenge is not None and not _proves(device, code, verifier):
                return DeviceOver("this sign-in is over; begin again")
            person = await store.person_by_id(connection, device.person)
            held = await store.roles_by_tenant(connection, device.person)
            if person is None or not person.active or device.tenant not in held:
                return AccessDenied("that person has no role any more")
            return person, device.tenant

    async def _still_pending(
        self, connection: Connection, device: device_store.Device, now: datetime
    ) -> FreeholdError:
        interval = device.interval_seconds
        early = device.polled_at is not None and now - device.polled_at < timedelta(
            seconds=interval
        )
        if early:
            interval = min(interval + INTERVAL_SECONDS, 60)
        await device_store.polled(connection, device.device_sha256, now, interval)
        if early:
            return SlowDown(f"ask every {interval} seconds")
        return StillPending("nobody has given leave yet")

    # -- for the page

    async def pending(self, user_code: str, caller: Caller) -> DeviceRequest:
        await self._guesses.at_code(caller.tenant, _name(caller))
        async with self._database.transaction() as connection:
            device = await self._found(connection, user_code)
        await self._guesses.code_was_right(_name(caller))
        plain = _plain(user_code)
        return DeviceRequest(
            user_code=f"{plain[:4]}-{plain[4:]}",
            description=device.description,
            source=device.source,
            nearby=device.port is not None,
            expires_at=device.expires_at,
        )

    async def approve(self, user_code: str, caller: Caller) -> Approved:
        code = new_secret()
        await self._guesses.at_code(caller.tenant, _name(caller))
        async with self._database.transaction() as connection:
            device = await self._found(connection, user_code)
            person = await _person_of(connection, caller)
            await device_store.answer(
                connection,
                device.device_sha256,
                status="approved",
                tenant=caller.tenant,
                person=person.id,
                code_sha256=sha256(code) if device.port is not None else None,
            )
        await self._guesses.code_was_right(_name(caller))
        if device.port is None:
            return Approved()
        query = urlencode({"code": code, "state": device.state or ""})
        return Approved(redirect=f"http://127.0.0.1:{device.port}/signed-in?{query}")

    async def deny(self, user_code: str, caller: Caller) -> None:
        await self._guesses.at_code(caller.tenant, _name(caller))
        async with self._database.transaction() as connection:
            device = await self._found(connection, user_code)
            await device_store.answer(
                connection, device.device_sha256, status="denied", tenant=caller.tenant
            )
        await self._guesses.code_was_right(_name(caller))

    async def _found(self, connection: Connection, user_code: str) -> device_store.Device:
        """A guess was counted before: whoever looks is told a right code from a wrong one."""
        plain = _plain(user_code)
        device = await device_store.pending(connection, sha256(plain), self._now())
        if device is None:
            raise NotFound("no sign-in waits under this code: it may be mistyped, used or too old")
        return device


def _name(caller: Caller) -> str:
    if caller.kind is not CallerKind.PERSON or caller.user is None:
        raise AccessDenied("only a person who is signed in can do that")
    return caller.user


async def _person_of(connection: Connection, caller: Caller) -> Person:
    for member in await store.members(connection, caller.tenant, _name(caller)):
        if member.person.name == caller.user and member.person.active:
            return member.person
    raise AccessDenied("you have no role here any more")


def _proves(device: device_store.Device, code: str, verifier: str) -> bool:
    digest = hashlib.sha256(verifier.encode()).digest()
    challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
    right_code = hmac.compare_digest(sha256(code), device.code_sha256 or "")
    return hmac.compare_digest(challenge, device.challenge or "") and right_code


def _check_loopback(loopback: Loopback | None) -> None:
    if loopback is None:
        return
    if not 1024 <= loopback.port <= 65535:
        raise ValidationFailed("a port from 1024 to 65535 is needed")
    if not _CHALLENGE.fullmatch(loopback.code_challenge):
        raise ValidationFailed("codeChallenge: expected the S256 challenge of RFC 7636")
    if not _STATE.fullmatch(loopback.state):
        raise ValidationFailed("state: expected 16 to 128 characters of A-Z, a-z, 0-9, _ and -")


def _new_user_code() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(8))


def _plain(user_code: str) -> str:
    return re.sub(r"[\s-]", "", user_code[:_CODES_SHOWN_MAX]).upper()
