"""Runtimes and endpoints: created, built, updated, resolved. No HTTP, no SQL."""

import base64
import contextlib
import logging
from collections import OrderedDict
from typing import Any

import msgspec

from freehold.kernel import ids
from freehold.kernel.errors import (
    Conflict,
    FreeholdError,
    NotFound,
    Unavailable,
    ValidationFailed,
)
from freehold.kernel.pages import Page
from freehold.ports.jobs import Jobs, JobState
from freehold.ports.placement import Placement
from freehold.ports.resources import Document, Idempotency, Resource, Resources
from freehold.ports.secrets import Sealer
from freehold.ports.tokens import TokenRules
from freehold.services.runtime.bounds import SessionBounds
from freehold.services.runtime.model import (
    DEFAULT_ENDPOINT,
    ENDPOINT,
    RUNTIME,
    Deployment,
    Share,
    checked_document,
    checked_environment,
    deployment,
    memory_mib_min,
)
from freehold.services.runtime.options import (
    BEARER_SHELLS,
    CONTENT_CAPTURE,
    endpoint_options,
    runtime_options,
)
from freehold.services.runtime.ports import BuildRefused, RuntimeBuilder, RuntimeIdentities

log = logging.getLogger(__name__)

BUILD_JOB = "runtime-build"
_BUILDING = ("CREATING", "UPDATING")
_DEPLOYMENTS_MAX = 10_000
_ENVIRONMENT_BYTES_MAX = 4096 * 50


class RuntimeLimits(msgspec.Struct, frozen=True, kw_only=True):
    idle_seconds: int
    lifetime_seconds: int
    memory_mib_max: int
    tiers: frozenset[str]
    bounds: SessionBounds = SessionBounds()


class RuntimeService:
    def __init__(
        self,
        *,
        resources: Resources,
        jobs: Jobs,
        placement: Placement,
        sealer: Sealer,
        limits: RuntimeLimits,
        identities: RuntimeIdentities,
    ) -> None:
        self._resources, self._jobs, self._placement = resources, jobs, placement
        self._sealer, self._limits = sealer, limits
        self.identities = identities
        self.options = runtime_options(tiers=limits.tiers, bounds=limits.bounds.readers())
        self.endpoint_options = endpoint_options()
        self._deployments: OrderedDict[tuple[str, str, str], Deployment] = OrderedDict()
        self._capturing: dict[tuple[str, str], bool] = {}
        self._changes = 0

    # -- runtimes

    async def create(self, tenant: str, params: dict[str, Any]) -> Resource:
        document = self._document(params)
        tags = params.get("tags") or {}
        self.options.check(tags)
        runtime_id = ids.suffixed(params["agentRuntimeName"])
        self._seal_environment(tenant, document, params, runtime_id)
        runtime, _ = await self._resources.create(
            tenant, RUNTIME, id=runtime_id, name=params["agentRuntimeName"], status="CREATING",
            document=document, tags=tags,
            idempotency=_idempotency("CreateAgentRuntime", params),
        )  # fmt: skip
        if runtime.status == "CREATING":  # also a repeat after a crash in between
            await self._create_default_endpoint(runtime)
            await self.identities.ensure(tenant, runtime.id)
            await _enqueue_build(self._jobs, runtime)
        return runtime

    async def _create_default_endpoint(self, runtime: Resource) -> None:
        with contextlib.suppress(Conflict):  # there is one already
            await self._resources.create(
                runtime.tenant, ENDPOINT, id=ids.suffixed(DEFAULT_ENDPOINT), name=DEFAULT_ENDPOINT,
                status="CREATING", parent=runtime.id, document={"targetVersion": 1},
            )  # fmt: skip

    async def update(self, tenant: str, params: dict[str, Any]) -> Resource:
        """A new version. The endpoints go on with theirs until it is built."""
        runtime_id = params["agentRuntimeId"]
        document = self._document(params)
        self._seal_environment(tenant, document, params, runtime_id)
        runtime = await self._resources.update(
            tenant, RUNTIME, runtime_id, lambda _: document, status="UPDATING", new_version=True,
            idempotency=_idempotency("UpdateAgentRuntime", params),
        )  # fmt: skip
        await self.identities.ensure(tenant, runtime.id)
        await _enqueue_build(self._jobs, runtime)
        return runtime

    async def get(self, tenant: str, runtime_id: str, version: int | None = None) -> Resource:
        return await self._resources.get(tenant, RUNTIME, runtime_id, version=version)

    async def page(self, tenant: str, limit: int | None, token: str | None) -> Page[Resource]:
        return await self._resources.page(tenant, RUNTIME, limit=limit, token=token)

    async def versions(
        self, tenant: str, runtime_id: str, limit: int | None, token: str | None
    ) -> Page[Resource]:
        return await self._resources.list_versions(
            tenant, RUNTIME, runtime_id, limit=limit, token=token
        )

    async def delete(self, tenant: str, runtime_id: str, version: str | None = None) -> Resource:
        """With its endpoints; its sessions end. What they cost stays on record."""
        if version is not None:
            raise ValidationFailed("agentRuntimeVersion: deleting one version is not available yet")
        runtime = await self._resources.get(tenant, RUNTIME, runtime_id)
        await self._resources.delete(tenant, RUNTIME, runtime_id)
        self._forget(tenant)
        await self._placement.stop_runtime(tenant, runtime_id, "the agent runtime was deleted")
        return runtime

    def environment(self, runtime: Resource) -> dict[str, str]:
        """The customer's variables, opened."""
        sealed = runtime.document.get("_environment")
        if sealed is None:
            return {}
        opened = self._sealer.open(
            base64.b64decode(sealed), context=_environment_context(runtime.tenant, runtime.id)
        )
        return msgspec.json.decode(opened, type=dict[str, str])

    def _document(self, params: dict[str, Any]) -> Document:
        return checked_document(
            params,
            idle_seconds=self._limits.idle_seconds,
            lifetime_seconds=self._limits.lifetime_seconds,
            memory_mib_max=self._limits.memory_mib_max,
        )

    def _seal_environment(
        self, tenant: str, document: Document, params: dict[str, Any], runtime_id: str
    ) -> None:
        environment = params.get("environmentVariables")
        if not environment:
            return
        checked_environment(environment)
        plain = msgspec.json.encode(environment)
        if len(plain) > _ENVIRONMENT_BYTES_MAX:
            raise ValidationFailed("environmentVariables: more than 200 KB in all")
        sealed = self._sealer.seal(plain, context=_environment_context(tenant, runtime_id))
        document["_environment"] = base64.b64encode(sealed).decode()

    # -- endpoints

    async def create_endpoint(self, tenant: str, params: dict[str, Any]) -> Resource:
        runtime_id, name = params["agentRuntimeId"], params["name"]
        self.endpoint_options.check(params.get("tags") or {})
        runtime = await self._resources.get(tenant, RUNTIME, runtime_id)
        version = await self._ready_version(runtime, params.get("agentRuntimeVersion"))
        document = {"targetVersion": version, "liveVersion": version}
        if params.get("description"):
            document["description"] = params["description"]
        endpoint, _ = await self._resources.create(
            tenant, ENDPOINT, id=ids.suffixed(name), name=name, status="READY",
            parent=runtime_id, document=document, tags=params.get("tags"),
            idempotency=_idempotency("CreateAgentRuntimeEndpoint", params),
        )  # fmt: skip
        return endpoint

    async def _ready_version(self, runtime: Resource, asked: str | None) -> int:
        version = int(asked) if asked else runtime.version
        if version != runtime.version:
            runtime = await self._resources.get(
                runtime.tenant, RUNTIME, runtime.id, version=version
            )
        if "_prepared" not in runtime.document:
            raise Conflict(
                f"version {version} of {runtime.id} is {runtime.status}; an endpoint needs a "
                "version that is READY"
            )
        return version

    async def update_endpoint(self, tenant: str, params: dict[str, Any]) -> Resource:
        runtime_id, name = params["agentRuntimeId"], params["endpointName"]
        if name == DEFAULT_ENDPOINT:
            raise ValidationFailed(
                "the DEFAULT endpoint follows the newest version; make a named endpoint to pin one"
            )
        endpoint = await self.get_endpoint(tenant, runtime_id, name)
        changes: Document = {}
        if params.get("agentRuntimeVersion"):
            runtime = await self._resources.get(tenant, RUNTIME, runtime_id)
            version = await self._ready_version(runtime, params["agentRuntimeVersion"])
            changes = {"targetVersion": version, "liveVersion": version}
        if params.get("description") is not None:
            changes["description"] = params["description"]
        updated = await self._resources.update(
            tenant, ENDPOINT, endpoint.id, lambda old: {**old.document, **changes},
            status="READY", parent=runtime_id,
            idempotency=_idempotency("UpdateAgentRuntimeEndpoint", params),
        )  # fmt: skip
        self._forget(tenant)
        return updated

    async def get_endpoint(self, tenant: str, runtime_id: str, name: str) -> Resource:
        endpoint = await self._resources.find_by_name(tenant, ENDPOINT, name, parent=runtime_id)
        if endpoint is None:
            await self._resources.get(tenant, RUNTIME, runtime_id)
            raise NotFound(f"agent runtime {runtime_id} has no endpoint {name}")
        return endpoint

    async def endpoints(
        self, tenant: str, runtime_id: str, limit: int | None, token: str | None
    ) -> Page[Resource]:
        page = await self._resources.page(
            tenant, ENDPOINT, parent=runtime_id, limit=limit, token=token
        )
        if not page.items:
            await self._resources.get(tenant, RUNTIME, runtime_id)
        return page

    async def delete_endpoint(self, tenant: str, runtime_id: str, name: str) -> Resource:
        if name == DEFAULT_ENDPOINT:
            raise Conflict("the DEFAULT endpoint goes with its runtime")
        endpoint = await self.get_endpoint(tenant, runtime_id, name)
        await self._resources.delete(tenant, ENDPOINT, endpoint.id, parent=runtime_id)
        self._forget(tenant)
        return endpoint

    # -- resolving an invocation's target

    async def resolve(self, tenant: str, runtime_id: str, endpoint: str) -> Deployment:
        """What answers at this endpoint. Cached until one of the tenant's runtimes changes."""
        key = (tenant, runtime_id, endpoint)
        found = self._deployments.get(key)
        if found is None:
            changes = self._changes
            found = await self._resolve(tenant, runtime_id, endpoint)
            if changes != self._changes:
                return found  # what was read may be old by now: not to be kept
            self._deployments[key] = found
            if len(self._deployments) > _DEPLOYMENTS_MAX:
                self._deployments.popitem(last=False)
        return found

    async def _resolve(self, tenant: str, runtime_id: str, endpoint: str) -> Deployment:
        target = await self.get_endpoint(tenant, runtime_id, endpoint)
        live = target.document.get("liveVersion")
        if live is None:
            runtime = await self._resources.get(tenant, RUNTIME, runtime_id)
            reason = runtime.document.get("_failure", "wait until its status is READY")
            raise Conflict(f"agent runtime {runtime_id} is {runtime.status}: {reason}")
        found = await self._built(tenant, runtime_id, endpoint, live)
        if found is None:
            raise Conflict(f"version {live} of {runtime_id} is not built")
        others = [
            Share(percent, other)
            for version, percent in self.endpoint_options.read(target.tags).get("split", ())
            if version != live
            and (other := await self._built(tenant, runtime_id, endpoint, version)) is not None
        ]
        return msgspec.structs.replace(found, shares=tuple(others)) if others else found

    async def _built(
        self, tenant: str, runtime_id: str, endpoint: str, version: int
    ) -> Deployment | None:
        try:
            runtime = await self._resources.get(tenant, RUNTIME, runtime_id, version=version)
        except NotFound:
            return None
        found = deployment(runtime, endpoint, self.environment(runtime))
        if found is None:
            return None
        said, bounds = self.options.read(runtime.tags), self._limits.bounds
        return msgspec.structs.replace(
            found,
            limits=bounds.limits(said, memory_mib_min=memory_mib_min(runtime.document)),
            egress=bounds.egress(said),
            bearer_shells=said.get(BEARER_SHELLS) == "true",
            captures_content=said.get(CONTENT_CAPTURE) == "on",
        )

    async def captures(self, tenant: str, runtime_id: str) -> bool:
        """Implements `ports.content_capture.ContentCapture`."""
        found = self._capturing.get((tenant, runtime_id))
        if found is None:
            changes = self._changes
            try:
                runtime = await self._resources.get(tenant, RUNTIME, runtime_id)
                found = self.options.read(runtime.tags).get(CONTENT_CAPTURE) == "on"
            except FreeholdError:
                return False  # what cannot be read captures nothing
            if changes == self._changes:
                if len(self._capturing) >= _DEPLOYMENTS_MAX:
                    self._capturing.clear()
                self._capturing[tenant, runtime_id] = found
        return found

    async def token_rules(self, tenant: str, runtime_id: str, endpoint: str) -> TokenRules | None:
        """Implements `services.access.ports.Authorizers`."""
        return (await self.resolve(tenant, runtime_id, endpoint)).token_rules

    def heard_change(self, payload: str) -> None:
        """A resource changed ("{tenant}/{kind}/{id}"), or anything may have ("")."""
        tenant, _, kind = payload.partition("/")
        if not payload or kind.startswith("agent-runtime"):
            self._forget(tenant)

    def _forget(self, tenant: str) -> None:
        """What is kept of one tenant, or of all ("")."""
        self._changes += 1
        for key in list(self._deployments):
            if not tenant or key[0] == tenant:
                del self._deployments[key]
        for known in list(self._capturing):
            if not tenant or known[0] == tenant:
                del self._capturing[known]


class RuntimeBuilds:
    """The build job's work: runs on a node."""

    def __init__(self, *, resources: Resources, builder: RuntimeBuilder) -> None:
        self._resources, self._builder = resources, builder

    async def work(self, payload: dict[str, Any]) -> None:
        """Idempotent: a version that is built already is left alone."""
        tenant, runtime_id = payload["tenant"], payload["runtime_id"]
        version = int(payload["version"])
        try:
            runtime = await self._resources.get(tenant, RUNTIME, runtime_id, version=version)
        except NotFound:
            return
        if runtime.status not in _BUILDING:
            return
        try:
            built = await self._builder.build(tenant, runtime.document, f"{runtime_id}-{version}")
        except Unavailable:
            raise  # the job is tried again
        except (BuildRefused, FreeholdError) as error:
            await self._failed(runtime, str(error))
            return
        except Exception:  # the boundary: no runtime may stay in CREATING, whatever went wrong
            log.exception("the build of %s version %d broke", runtime_id, version)
            await self._failed(runtime, "an error of the platform's own; its log has more")
            return
        document = {**runtime.document, "_prepared": {
            "code": built.code, "layers": built.layers, "interpreter": built.interpreter,
            "image": built.image,
        }}  # fmt: skip
        try:
            await self._succeeded(runtime, document)
        except NotFound:
            log.info("runtime %s was deleted while it was built", runtime_id)

    async def take_up(self, jobs: Jobs) -> None:
        """What a crash left between the row and its job, or a job that gave up: after a restart."""
        for runtime in await self._resources.in_status(RUNTIME, frozenset(_BUILDING)):
            job = await jobs.get(_build_job_id(runtime))
            if job is None:
                await _enqueue_build(jobs, runtime)
            elif job.state is JobState.FAILED:
                reason = f"the build could not be carried out ({job.error}); update to try again"
                await self._failed(runtime, reason)

    async def _succeeded(self, runtime: Resource, document: Document) -> None:
        """READY comes last: who sees it may invoke at once."""
        for status in (runtime.status, "READY"):
            await self._resources.set_status(
                runtime.tenant, RUNTIME, runtime.id, status, version=runtime.version,
                document=document,
            )  # fmt: skip
            if status != "READY":
                await self._point_default_at(runtime)

    async def _point_default_at(self, runtime: Resource) -> None:
        default = await self._default_of(runtime)
        if default.document.get("liveVersion", 0) > runtime.version:
            return
        live = {"targetVersion": runtime.version, "liveVersion": runtime.version}
        kept = {k: v for k, v in default.document.items() if k != "_failure"}
        await self._resources.set_status(
            runtime.tenant, ENDPOINT, default.id, "READY", parent=runtime.id,
            document={**kept, **live},
        )  # fmt: skip

    async def _default_of(self, runtime: Resource) -> Resource:
        default = await self._resources.find_by_name(
            runtime.tenant, ENDPOINT, DEFAULT_ENDPOINT, parent=runtime.id
        )
        if default is None:
            raise NotFound(f"agent runtime {runtime.id!r} does not exist")
        return default

    async def _failed(self, runtime: Resource, reason: str) -> None:
        """The endpoint goes on with an earlier version, where there is one."""
        status = "CREATE_FAILED" if runtime.status == "CREATING" else "UPDATE_FAILED"
        document = {**runtime.document, "_failure": reason}
        try:
            default = await self._default_of(runtime)
            if "liveVersion" not in default.document:
                await self._resources.set_status(
                    runtime.tenant, ENDPOINT, default.id, "CREATE_FAILED", parent=runtime.id,
                    document={**default.document, "_failure": reason},
                )  # fmt: skip
            await self._resources.set_status(
                runtime.tenant, RUNTIME, runtime.id, status, version=runtime.version,
                document=document,
            )  # fmt: skip
        except NotFound:
            log.info("runtime %s was deleted while it was built", runtime.id)


def _build_job_id(runtime: Resource) -> str:
    return f"{BUILD_JOB}-{runtime.tenant}-{runtime.id}-{runtime.version}"


async def _enqueue_build(jobs: Jobs, runtime: Resource) -> None:
    payload = {"tenant": runtime.tenant, "runtime_id": runtime.id, "version": runtime.version}
    await jobs.enqueue(BUILD_JOB, payload, id=_build_job_id(runtime))


def _environment_context(tenant: str, runtime_id: str) -> str:
    return f"{tenant}|agent-runtime|{runtime_id}|environment"


def _idempotency(operation: str, params: dict[str, Any]) -> Idempotency:
    asked = {k: v for k, v in params.items() if k != "clientToken"}
    return Idempotency(operation, params.get("clientToken"), asked)
