"""Temporary credentials of a person: made, looked up on every request, ended."""

import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime, timedelta

from freehold.kernel import clock, ids
from freehold.kernel.errors import NotFound, Unavailable
from freehold.ports.authorizer import AccessKey
from freehold.ports.database import Database
from freehold.ports.secrets import SealBroken, Sealer
from freehold.services.people import sign_in_store, store
from freehold.services.people.model import Credentials, new_secret, sha256

log = logging.getLogger("freehold.people")

PREFIX = "FHSA"
"""Of the ids of temporary keys; never one of AWS's own."""
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_CACHED_MAX = 10_000
# A change is heard at once. The age is for a worker cut off from the notifications.
_CACHED_SECONDS_MAX = 60.0
_UNKNOWN_SECONDS_MAX = 5.0
_TOLD_AS_EXPIRED = timedelta(days=1)


class PersonKeys:
    """Implements `ports.authorizer.AccessKeys` for ids that begin with PREFIX."""

    def __init__(
        self,
        database: Database,
        sealer: Sealer,
        *,
        lifetime: timedelta = timedelta(hours=12),
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        self._database = database
        self._sealer = sealer
        self._lifetime = lifetime
        self._now = now
        self._known: OrderedDict[str, tuple[float, AccessKey | None]] = OrderedDict()
        self._changes = 0
        database.listen(store.CHANNEL, self._heard)

    async def create(self, tenant: str, person: str, name: str) -> Credentials:
        """The only time that the secret and the token are shown."""
        now = self._now()
        id = PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(16))
        made = Credentials(
            tenant=tenant,
            access_key_id=id,
            secret_access_key=ids.secret_access_key(),
            session_token=new_secret(),
            expires_at=now + self._lifetime,
            user=name,
        )
        sealed = self._sealer.seal(made.secret_access_key.encode(), context=_context(tenant, id))
        async with self._database.connection() as connection:
            await sign_in_store.insert_credentials(
                connection,
                tenant=tenant,
                id=id,
                person=person,
                sealed_secret=sealed,
                token_sha256=sha256(made.session_token),
                now=now,
                forget_before=now - _TOLD_AS_EXPIRED,
                expires_at=made.expires_at,
            )
        return made

    async def active(self, access_key_id: str) -> AccessKey | None:
        """Also of an expired one, whose `expires_at` says so: its owner is told."""
        found = self._known.get(access_key_id)
        if found is not None and time.monotonic() < found[0]:
            return found[1]
        return await self._load(access_key_id)

    async def end(self, tenant: str, access_key_id: str) -> None:
        async with self._database.transaction() as connection:
            if not await sign_in_store.delete_credentials(connection, tenant, access_key_id):
                raise NotFound("these credentials have ended already")
        self._heard("")

    async def _load(self, id: str) -> AccessKey | None:
        changes = self._changes
        async with self._database.connection() as connection:
            stored = await sign_in_store.credentials(connection, id)
        key = None
        if stored is not None:
            try:
                secret = self._sealer.open(
                    stored.sealed_secret, context=_context(stored.tenant, id)
                )
            except SealBroken as error:
                log.error("temporary key %s cannot be opened: %s", id, error)
                raise Unavailable("the access key cannot be checked just now") from error
            key = AccessKey(
                id=id,
                tenant=stored.tenant,
                secret=secret.decode(),
                user=stored.name,
                roles=stored.roles,
                token_sha256=stored.token_sha256,
                expires_at=stored.expires_at,
            )
        # What was read may be old by now: of a change in the meantime we have heard.
        if changes == self._changes:
            self._keep(id, key)
        return key

    def _keep(self, id: str, key: AccessKey | None) -> None:
        seconds = _CACHED_SECONDS_MAX if key else _UNKNOWN_SECONDS_MAX
        self._known.pop(id, None)
        self._known[id] = (time.monotonic() + seconds, key)
        if len(self._known) > _CACHED_MAX:
            self._known.popitem(last=False)

    def _heard(self, _: str) -> None:
        """Somebody's roles or sign-ins changed, which is rare: everybody's are read again."""
        self._changes += 1
        self._known.clear()


def _context(tenant: str, id: str) -> str:
    return f"{tenant}|person_key|{id}"
