"""Functions: created, changed, listed, deleted. No HTTP, no SQL."""

import asyncio
import base64
import contextlib
import re
from collections import OrderedDict

import msgspec

from freehold.kernel import ids
from freehold.kernel.errors import Conflict, FreeholdError, NotFound
from freehold.kernel.pages import Page
from freehold.ports.blobs import Blobs
from freehold.ports.resources import Document, Resource, Resources
from freehold.ports.secrets import Sealer
from freehold.services.functions import bundle
from freehold.services.functions.model import BUCKET, FUNCTION, TAG, Function, Wanted, check
from freehold.services.functions.ports import Instances, InstanceSpec, InstanceState

_KNOWN_MAX = 10_000


class FunctionService:
    def __init__(
        self, *, resources: Resources, blobs: Blobs, sealer: Sealer, instances: Instances
    ) -> None:
        self._resources, self._blobs = resources, blobs
        self._sealer, self._instances = sealer, instances
        self._known: OrderedDict[tuple[str, str], Function] = OrderedDict()
        self._changes = 0

    async def create(self, tenant: str, wanted: Wanted) -> Resource:
        check(wanted)
        if await self._resources.find_by_name(tenant, FUNCTION, wanted.name) is not None:
            raise Conflict(f"there is a function {wanted.name!r} already")
        key, sha256 = await self._bundled(tenant, wanted)
        id = ids.suffixed(wanted.name)
        name = f"fn_{re.sub('[^A-Za-z0-9]', '_', wanted.name)[:32]}_{ids.random_text(8)}"
        runtime_id = await self._instances.create(tenant, _spec(wanted, name, key))
        try:
            function, _ = await self._resources.create(
                tenant, FUNCTION, id=id, name=wanted.name, status="READY", tags=wanted.tags,
                document={
                    **self._document(tenant, wanted, id), "codeSha256": sha256,
                    "_runtime_id": runtime_id, "_runtime_name": name,
                },
            )  # fmt: skip
        except BaseException:  # somebody took the name meanwhile, or the store is away
            with contextlib.suppress(FreeholdError):
                await self._instances.delete(tenant, runtime_id)
            raise
        return function

    async def update(self, tenant: str, wanted: Wanted) -> Resource:
        """All of it anew; what runs goes on with the old code until the new is built. The tags stay
        as they are."""
        check(wanted)
        function = await self.get(tenant, wanted.name)
        key, sha256 = await self._bundled(tenant, wanted)
        kept = {m: function.document[m] for m in ("_runtime_id", "_runtime_name")}
        wanted = msgspec.structs.replace(wanted, tags=function.tags)
        await self._instances.update(
            tenant, kept["_runtime_id"], _spec(wanted, kept["_runtime_name"], key)
        )
        document = {
            **self._document(tenant, wanted, function.id), "codeSha256": sha256, **kept,
        }  # fmt: skip
        updated = await self._resources.update(
            tenant, FUNCTION, function.id, lambda _: document, status="READY"
        )
        self._forget(tenant)
        return updated

    async def get(self, tenant: str, name: str) -> Resource:
        found = await self._resources.find_by_name(tenant, FUNCTION, name)
        if found is None:
            raise NotFound(f"function {name!r} does not exist")
        return found

    async def state(self, function: Resource) -> InstanceState:
        """How far its newest code is."""
        try:
            return await self._instances.state(function.tenant, function.document["_runtime_id"])
        except NotFound:
            return InstanceState("DELETED", "the agent runtime behind it is gone; delete it")

    def environment(self, function: Resource) -> dict[str, str]:
        sealed = function.document.get("_environment")
        if sealed is None:
            return {}
        context = _context(function.tenant, function.id)
        opened = self._sealer.open(base64.b64decode(sealed), context=context)
        return msgspec.json.decode(opened, type=dict[str, str])

    async def page(self, tenant: str, limit: int | None, token: str | None) -> Page[Resource]:
        return await self._resources.page(tenant, FUNCTION, limit=limit, token=token)

    async def delete(self, tenant: str, name: str) -> None:
        """With its instances and the bundles that were made for it."""
        function = await self.get(tenant, name)
        with contextlib.suppress(NotFound):
            await self._instances.delete(tenant, function.document["_runtime_id"])
        await self._resources.delete(tenant, FUNCTION, function.id)
        self._forget(tenant)
        with contextlib.suppress(NotFound):
            page = await self._blobs.list(tenant, BUCKET, prefix=f"{name}/")
            for blob in page.items:
                await self._blobs.delete(tenant, BUCKET, blob.key)

    # -- for invocations

    async def find(self, tenant: str, name: str) -> Function | None:
        """Cached until one of the tenant's functions changes."""
        key = (tenant, name)
        found = self._known.get(key)
        if found is None:
            changes = self._changes
            resource = await self._resources.find_by_name(tenant, FUNCTION, name)
            if resource is None:
                return None
            found = Function.of(resource)
            if changes == self._changes:
                self._known[key] = found
                if len(self._known) > _KNOWN_MAX:
                    self._known.popitem(last=False)
        return found

    def heard_change(self, payload: str) -> None:
        """A resource changed ("{tenant}/{kind}/{id}"), or anything may have ("")."""
        tenant, _, rest = payload.partition("/")
        if not payload or rest.startswith(FUNCTION.name + "/"):
            self._forget(tenant)

    def _forget(self, tenant: str) -> None:
        self._changes += 1
        for key in list(self._known):
            if tenant in ("", key[0]):
                del self._known[key]

    # -- what it is made of

    async def _bundled(self, tenant: str, wanted: Wanted) -> tuple[str, str]:
        """The key of the runtime's bundle, and the SHA-256 of what it was made from."""
        _, chunks = await self._blobs.get(tenant, wanted.code.bucket, wanted.code.key)
        file = await bundle.gathered(chunks)
        with file:
            sha256 = await asyncio.to_thread(bundle.digest, file)
            await asyncio.to_thread(bundle.add_bootstrap, file, wanted.runtime, wanted.handler)
            whole = await asyncio.to_thread(bundle.digest, file)
            key = f"{wanted.name}/{whole}.zip"
            await self._blobs.create_bucket(tenant, BUCKET)
            await self._blobs.put(tenant, BUCKET, key, bundle.in_chunks(file))
        return key, sha256

    def _document(self, tenant: str, wanted: Wanted, id: str) -> Document:
        document: Document = {
            "runtime": wanted.runtime,
            "handler": wanted.handler,
            "description": wanted.description,
            "timeoutSeconds": wanted.seconds_max,
            "memoryMib": wanted.memory_mib,
        }
        if wanted.environment:
            sealed = self._sealer.seal(
                msgspec.json.encode(wanted.environment), context=_context(tenant, id)
            )
            document["_environment"] = base64.b64encode(sealed).decode()
        return document


def _context(tenant: str, id: str) -> str:
    return f"{tenant}|function-environment|{id}"


def _spec(wanted: Wanted, name: str, key: str) -> InstanceSpec:
    environment = {
        **wanted.environment,
        "_HANDLER": wanted.handler,
        "AWS_LAMBDA_FUNCTION_NAME": wanted.name,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(wanted.memory_mib),
    }
    return InstanceSpec(
        name=name,
        runtime=wanted.runtime,
        entry_point=(bundle.entry_point(wanted.runtime),),
        bucket=BUCKET,
        key=key,
        environment=environment,
        tags={**wanted.tags, TAG: wanted.name, "freehold:memory-mib": str(wanted.memory_mib)},
        description=f"The function {wanted.name}",
    )
