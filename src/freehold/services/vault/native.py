"""The vault in our own API: its keys' state and rotation, next secrets, reminders, public keys."""

from datetime import datetime
from typing import Any

import msgspec

from freehold.kernel.errors import NotFound, ValidationFailed
from freehold.kernel.operation import Operation, Parameter, Params
from freehold.kernel.request import Request
from freehold.ports.resources import ResourceKind
from freehold.services.vault.changing import KINDS, Registration, SecretChanges
from freehold.services.vault.keys import KeyUse, VaultKeys
from freehold.services.vault.model import OAUTH2, oauth2_document
from freehold.services.vault.providers import ProviderService

_PROVIDER_KIND = {"api-key": "api-key", "client-secret": "oauth2"}


class KeyState(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`keptBy` names what keeps the key. `values`: how many secrets each version seals."""

    kept_by: str
    newest_version: int
    values: dict[str, int]
    under_older_versions: int


class ScheduleView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`way`: `registration` (the platform changes it) or `reminder`. `failure` of the last try."""

    provider_type: str
    name: str
    way: str
    every_days: int
    due_at: datetime
    due: bool
    failure: str


class NextView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    provider_type: str
    name: str
    since: datetime


class VaultStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`platformKey` is shown to the platform's own account alone."""

    key: KeyState
    platform_key: KeyState | None
    schedules: list[ScheduleView]
    next_secrets: list[NextView]


class Rotate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`platform`: the platform's own key, in place of the account's."""

    platform: bool = False


class Rotation(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`state`: queued, running, done or failed."""

    rotation_id: str
    state: str
    error: str | None


class NextSecret(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    secret: str

    def __repr__(self) -> str:
        return "NextSecret()"


class RegistrationGiven(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Of RFC 7592, as the registration answered."""

    registration_client_uri: str
    registration_access_token: str

    def __repr__(self) -> str:
        return f"RegistrationGiven({self.registration_client_uri})"


class ScheduleGiven(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Without `registration` a reminder for people."""

    every_days: int
    registration: RegistrationGiven | None = None


class PublicKeys(msgspec.Struct, frozen=True):
    """A JWK set."""

    keys: list[dict[str, Any]]


_PROVIDER = (
    Parameter(name="type", meaning="`api-key` or `oauth2`", where="path"),
    Parameter(name="name", meaning="The credential provider's name", where="path"),
)
_PLACE = "/vault/providers/{type}/{name}"


def operations(
    providers: ProviderService, keys: VaultKeys, changes: SecretChanges
) -> list[Operation]:
    own, use = _Keys(keys, changes), _Changes(providers, changes)
    rotation = (Parameter(name="rotationId", meaning="As RotateVaultKey gave it", where="path"),)
    return [
        Operation(
            name="GetVaultStatus", method="GET", path="/vault", act=own.status, answer=VaultStatus,
            summary="Keys and what they seal, secrets to be changed, next secrets",
        ),
        Operation(
            name="RotateVaultKey", method="POST", path="/vault/rotations", act=own.rotate,
            summary="A new version of the key; every secret is moved under it, nothing waits",
            body=Rotate, answer=Rotation, status=202,
        ),
        Operation(
            name="GetVaultRotation", method="GET", path="/vault/rotations/{rotationId}",
            summary="How far a rotation is", act=own.rotation, parameters=rotation,
            answer=Rotation,
        ),
        Operation(
            name="PutNextSecret", method="PUT", path=f"{_PLACE}/next-secret", act=use.put_next,
            summary="A second secret beside the current one, while it is changed at the provider",
            parameters=_PROVIDER, body=NextSecret, status=204,
        ),
        Operation(
            name="DeleteNextSecret", method="DELETE", path=f"{_PLACE}/next-secret",
            summary="Drop the second secret", act=use.drop_next, parameters=_PROVIDER, status=204,
        ),
        Operation(
            name="PromoteNextSecret", method="POST", path=f"{_PLACE}/promotion",
            summary="The second secret becomes the current one", act=use.promote,
            parameters=_PROVIDER, status=204,
        ),
        Operation(
            name="PutSecretSchedule", method="PUT", path=f"{_PLACE}/schedule", act=use.schedule,
            summary="Change the secret every so many days, or be reminded to",
            parameters=_PROVIDER, body=ScheduleGiven, status=204,
        ),
        Operation(
            name="DeleteSecretSchedule", method="DELETE", path=f"{_PLACE}/schedule",
            summary="No longer", act=use.unschedule, parameters=_PROVIDER, status=204,
        ),
        Operation(
            name="GetClientKeys", method="GET", path=f"{_PLACE}/jwks",
            summary="Public keys of a client with PRIVATE_KEY_JWT, to register at its provider",
            act=use.public_keys, parameters=_PROVIDER, answer=PublicKeys,
        ),
    ]  # fmt: skip


class _Keys:
    def __init__(self, keys: VaultKeys, changes: SecretChanges) -> None:
        self._keys = keys
        self._changes = changes

    async def status(self, request: Request, params: Params, _: Any) -> VaultStatus:
        tenant = request.tenant
        platform = await self._keys.platform_use(tenant)
        return VaultStatus(
            key=_state(await self._keys.use(tenant)),
            platform_key=None if platform is None else _state(platform),
            schedules=[
                ScheduleView(
                    provider_type=_PROVIDER_KIND[s.kind], name=s.name, way=s.way,
                    every_days=s.every_days, due_at=s.due_at, due=s.due, failure=s.failure,
                )
                for s in await self._changes.schedules(tenant)
            ],
            next_secrets=[
                NextView(
                    provider_type=_PROVIDER_KIND[kind.removesuffix("-next")], name=name, since=since
                )
                for kind, name, since in await self._changes.next_secrets(tenant)
            ],
        )  # fmt: skip

    async def rotate(self, request: Request, params: Params, body: Rotate) -> Rotation:
        rotate = self._keys.rotate_platform if body.platform else self._keys.rotate
        return await self._rotation(request.tenant, await rotate(request.tenant))

    async def rotation(self, request: Request, params: Params, _: Any) -> Rotation:
        return await self._rotation(request.tenant, params["rotationId"])

    async def _rotation(self, tenant: str, id: str) -> Rotation:
        job = await self._keys.job(tenant, id)
        return Rotation(rotation_id=id, state=job.state.value, error=job.error)


class _Changes:
    def __init__(self, providers: ProviderService, changes: SecretChanges) -> None:
        self._providers = providers
        self._changes = changes

    async def put_next(self, request: Request, params: Params, body: NextSecret) -> None:
        await self._changes.put_next(request.tenant, _kind(params), params["name"], body.secret)

    async def drop_next(self, request: Request, params: Params, _: Any) -> None:
        await self._changes.drop_next(request.tenant, _kind(params), params["name"])

    async def promote(self, request: Request, params: Params, _: Any) -> None:
        await self._changes.promote(request.tenant, _kind(params), params["name"])

    async def schedule(self, request: Request, params: Params, body: ScheduleGiven) -> None:
        if not 1 <= body.every_days <= 3650:
            raise ValidationFailed("everyDays: expected 1 to 3650")
        given = body.registration
        registration = None
        if given is not None:
            registration = Registration(
                uri=given.registration_client_uri, token=given.registration_access_token
            )
        await self._changes.schedule(
            request.tenant, _kind(params), params["name"],
            every_days=body.every_days, registration=registration,
        )  # fmt: skip

    async def unschedule(self, request: Request, params: Params, _: Any) -> None:
        await self._changes.unschedule(request.tenant, _kind(params), params["name"])

    async def public_keys(self, request: Request, params: Params, _: Any) -> PublicKeys:
        if _kind(params) is not OAUTH2:
            raise NotFound("only OAuth 2.0 clients have keys")
        provider = await self._providers.get(request.tenant, OAUTH2, params["name"])
        public = oauth2_document(provider).public_jwk
        return PublicKeys([public] if public else [])


def _kind(params: Params) -> ResourceKind:
    kind = KINDS.get(params["type"])
    if kind is None:
        raise NotFound("a credential provider is of type api-key or oauth2")
    return kind


def _state(use: KeyUse) -> KeyState:
    return KeyState(
        kept_by=use.kept_by.removeprefix("service:"),
        newest_version=use.newest,
        values={str(version): count for version, count in sorted(use.values.items())},
        under_older_versions=sum(c for v, c in use.values.items() if v != use.newest),
    )
