"""Access keys in our own API."""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec

from freehold.kernel.errors import Conflict, NotFound
from freehold.kernel.operation import Operation, Parameter, Params
from freehold.kernel.request import Request
from freehold.kernel.roles import Role
from freehold.services.access.model import AccessKeyRecord
from freehold.services.access.service import AccessKeyService


class KeyView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An access key without its secret. `lastUsedAt` is right to the minute."""

    access_key_id: str
    description: str
    status: str
    roles: list[str]
    created_at: datetime
    last_used_at: datetime | None


class KeyList(msgspec.Struct, frozen=True):
    keys: list[KeyView]


class NewKey(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The only answer that ever shows the secret."""

    access_key_id: str
    secret_access_key: str
    description: str
    status: str
    roles: list[str]


class CreateKey(msgspec.Struct, frozen=True):
    """A key without a role would open nothing; `admin` opens everything in its tenant."""

    description: str = ""
    roles: Annotated[tuple[Role, ...], msgspec.Meta(min_length=1)] = ("admin",)


class ChangeKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    status: Literal["Active", "Inactive"]


_KEY = (Parameter(name="accessKeyId", meaning="The access key's id", where="path"),)


def operations(keys: AccessKeyService) -> list[Operation]:
    own = _Own(keys)
    return [
        Operation(
            name="ListAccessKeys", method="GET", path="/keys", act=own.list_keys,
            summary="The tenant's access keys, oldest first", answer=KeyList,
        ),
        Operation(
            name="CreateAccessKey", method="POST", path="/keys", act=own.create,
            summary="Make an access key; its secret is shown this once", body=CreateKey,
            answer=NewKey, status=201,
        ),
        Operation(
            name="ChangeAccessKey", method="PATCH", path="/keys/{accessKeyId}", act=own.change,
            summary="Disable a key, or enable it again", parameters=_KEY, body=ChangeKey,
            answer=KeyView,
        ),
        Operation(
            name="DeleteAccessKey", method="DELETE", path="/keys/{accessKeyId}", act=own.delete,
            summary="Delete a key for good", parameters=_KEY, status=204,
        ),
    ]  # fmt: skip


class _Own:
    def __init__(self, keys: AccessKeyService) -> None:
        self._keys = keys

    async def list_keys(self, request: Request, params: Params, _: Any) -> KeyList:
        return KeyList([_view(k) for k in await self._keys.list(request.tenant)])

    async def create(self, request: Request, params: Params, body: CreateKey) -> NewKey:
        new = await self._keys.create(request.tenant, body.description, body.roles)
        return NewKey(
            access_key_id=new.id,
            secret_access_key=new.secret,
            description=body.description,
            status="Active",
            roles=sorted(set(body.roles)),
        )

    async def change(self, request: Request, params: Params, body: ChangeKey) -> KeyView:
        tenant, id = request.tenant, params["accessKeyId"]
        active = body.status == "Active"
        if not active:
            await self._keep_one(request, id)
        await self._keys.set_active(tenant, id, active=active)
        for key in await self._keys.list(tenant):
            if key.id == id:
                return _view(key)
        raise NotFound(f"access key {id!r} does not exist")

    async def delete(self, request: Request, params: Params, _: Any) -> None:
        await self._keep_one(request, params["accessKeyId"])
        await self._keys.delete(request.tenant, params["accessKeyId"])

    async def _keep_one(self, request: Request, id: str) -> None:
        """Without a key that may make keys its owner is locked out: a mistake, not a wish."""
        keys = await self._keys.list(request.tenant)
        if [k.id for k in keys if k.active and "admin" in k.roles] == [id]:
            raise Conflict(
                "this is the last active access key with the role admin; make another one first"
            )


def _view(key: AccessKeyRecord) -> KeyView:
    return KeyView(
        access_key_id=key.id,
        description=key.description,
        status="Active" if key.active else "Inactive",
        roles=sorted(key.roles),
        created_at=key.created_at,
        last_used_at=key.last_used_at,
    )
