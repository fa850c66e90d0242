"""Policies from plain English: a job asks the model, checks what it says, and keeps the assets.

Nothing here makes a policy: that is CreatePolicy's, of an asset that somebody chose.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

import msgspec

from freehold.kernel import ids, tracing
from freehold.kernel.arns import Arn
from freehold.kernel.clock import now
from freehold.kernel.errors import Conflict, NotFound, Throttled, Unavailable, ValidationFailed
from freehold.kernel.pages import Page, decode_token, encode_token
from freehold.ports.enforcement import GovernedGateway, GovernedGateways
from freehold.ports.jobs import Jobs, JobState
from freehold.ports.models import Models
from freehold.ports.resources import Document, Idempotency, Resource, Resources
from freehold.services.policy.generation_author import PAUSES_SECONDS, Author, GenerationFailed
from freehold.services.policy.generation_checking import Checking
from freehold.services.policy.generation_translating import Asset, Translating
from freehold.services.policy.model import ENGINE, GENERATION

log = logging.getLogger("freehold.policy")

GENERATION_JOB = "policy-generation"
GENERATION_ATTEMPTS_MAX = 5
KEPT = timedelta(days=7)
"""As AWS has it: so long there are assets to choose from."""

GENERATING, GENERATED, FAILED = "GENERATING", "GENERATED", "GENERATE_FAILED"

_SECONDS_MAX = 900.0
_UNDER_WAY_MAX = 10
_SWEPT_AT_ONCE = 20
_ASSETS_PAGE = 100
_FRAGMENT_CHARACTERS_SHOWN = 80
_OWN_FAULT = "an error of the platform's own; its log has more"
_NO_MODEL = (
    "policies are written from text by a model, and this platform has none: set a provider's key "
    "and model (for example OPENAI_API_KEY and OPENAI_MODEL; docs/models.md has all) where the "
    "platform is started, and start it again; or write the policy in Cedar"
)


class _Settled(Exception):
    """Somebody else has done it meanwhile."""


class Generations:
    """`models` is None where the platform has no model. The jobs port runs `work`; `recorder`
    takes the traces of it."""

    def __init__(
        self,
        *,
        resources: Resources,
        jobs: Jobs,
        gateways: GovernedGateways,
        checking: Checking,
        models: Models | None,
        pauses_seconds: Sequence[float] = PAUSES_SECONDS,
        seconds_max: float = _SECONDS_MAX,
        kept: timedelta = KEPT,
        recorder: tracing.Recorder | None = None,
    ) -> None:
        self._recorder = recorder
        self._resources, self._jobs, self._gateways = resources, jobs, gateways
        self._translating = None
        if models is not None:
            author = Author(models, pauses_seconds=pauses_seconds)
            self._translating = Translating(author=author, checking=checking)
        self._seconds_max, self._kept = seconds_max, kept

    # -- operations

    async def start(self, tenant: str, params: dict[str, Any]) -> Resource:
        if self._translating is None:
            raise ValidationFailed(_NO_MODEL)
        engine_id, text = params["policyEngineId"], _text(params)
        engine = await self._resources.get(tenant, ENGINE, engine_id)
        if engine.status != "ACTIVE":
            raise Conflict(f"policy engine {engine_id!r} is {engine.status}")
        gateway = await self._gateway(tenant, params["resource"].get("arn") or "")
        await self._check_room(tenant)
        await self._sweep(tenant, engine_id)
        name = params["name"]
        request = {key: value for key, value in params.items() if key != "clientToken"}
        generation, _ = await self._resources.create(
            tenant,
            GENERATION,
            id=f"{name}-{ids.random_text(10).lower()}",
            name=name,
            status=GENERATING,
            document={"resource": {"arn": gateway.arn}, "_text": text},
            parent=engine_id,
            idempotency=Idempotency("StartPolicyGeneration", params.get("clientToken"), request),
        )
        if generation.status == GENERATING:
            await self._enqueue(generation)
        return generation

    async def get(self, tenant: str, engine_id: str, generation_id: str) -> Resource:
        return await self._resources.get(tenant, GENERATION, generation_id, parent=engine_id)

    async def page(
        self, tenant: str, engine_id: str, limit: int | None, token: str | None
    ) -> Page[Resource]:
        """NotFound where there is no such engine."""
        page = await self._resources.page(
            tenant, GENERATION, parent=engine_id, limit=limit, token=token
        )
        if not page.items:
            await self._resources.get(tenant, ENGINE, engine_id)
        return page

    async def assets(
        self, tenant: str, engine_id: str, generation_id: str, limit: int | None, token: str | None
    ) -> Page[Asset]:
        """None yet while it is GENERATING."""
        assets = await self._assets(tenant, engine_id, generation_id)
        start = _position(token, generation_id)
        end = start + (limit or _ASSETS_PAGE)
        more = encode_token("policy-assets", generation_id, end) if end < len(assets) else None
        return Page(assets[start:end], more)

    async def statement(
        self, tenant: str, engine_id: str, generation_id: str, asset_id: str
    ) -> str:
        """Of an asset, for CreatePolicy. NotFound, or ValidationFailed where it has none."""
        assets = await self._assets(tenant, engine_id, generation_id)
        asset = next((each for each in assets if each.id == asset_id), None)
        if asset is None:
            raise NotFound(f"policy generation {generation_id!r} has no asset {asset_id!r}")
        if not asset.statement:
            found = "; ".join(f"{each.type}: {each.description}" for each in asset.findings)
            raise ValidationFailed(
                f"definition: asset {asset_id} of policy generation {generation_id} has no "
                f"statement ({found})"
            )
        return asset.statement

    # -- the work behind

    async def take_up(self) -> None:
        """What a crash left between a generation and its job, or a job that gave up."""
        for generation in await self._resources.in_status(GENERATION, frozenset({GENERATING})):
            job = await self._jobs.get(_job_id(generation))
            if job is None:
                await self._enqueue(generation)
            elif job.state is JobState.FAILED:
                await self._settle(generation, FAILED, _failed(f"it was given up ({job.error})"))

    async def work(self, payload: dict[str, Any]) -> None:
        """Idempotent: what is settled, or gone, is left alone."""
        try:
            generation = await self.get(
                payload["tenant"], payload["engine_id"], payload["generation_id"]
            )
        except NotFound:
            return
        if generation.status != GENERATING:
            return
        try:
            async with asyncio.timeout(self._seconds_max):
                status, members = await self._generated(generation)
        except TimeoutError:
            status, members = FAILED, _failed(f"it took more than {self._seconds_max:g} s")
        except (_Settled, NotFound):
            return
        except Unavailable:
            raise  # the job is tried again
        except Exception:  # the boundary: none stays in GENERATING, whatever happened
            log.exception("policy generation %s broke", generation.id)
            status, members = FAILED, _failed(_OWN_FAULT)
        await self._settle(generation, status, members)

    async def _generated(self, generation: Resource) -> tuple[str, Document]:
        if self._translating is None:
            return FAILED, _failed(_NO_MODEL)
        gateway = await self._gateways.get(
            generation.tenant, generation.document["resource"]["arn"]
        )
        if gateway is None:
            return FAILED, _failed("the gateway was deleted meanwhile")

        async def told(what: str) -> None:
            await self._change(generation, GENERATING, {"_reasons": [what]})

        try:
            with self._traced(generation, gateway):
                assets, remarks = await self._translating.translate(
                    gateway, generation.document["_text"], seed=generation.id, told=told
                )
        except GenerationFailed as failure:
            return FAILED, _failed(str(failure))
        return GENERATED, {
            "_assets": msgspec.to_builtins(assets),
            "findings": _summary(assets, remarks),
            "_reasons": [],
        }

    def _traced(
        self, generation: Resource, gateway: GovernedGateway
    ) -> AbstractContextManager[tracing.Span]:
        """No request waits for it: a trace of its own."""
        attributes = {
            "freehold.policy.engine": generation.parent,
            "freehold.policy.generation_id": generation.id,
            "freehold.gateway.id": gateway.id,
            "freehold.job.id": _job_id(generation),
        }
        return tracing.background(
            self._recorder, "policy_generation", tenant=generation.tenant, attributes=attributes
        )

    async def _settle(self, generation: Resource, status: str, members: Document) -> None:
        try:
            await self._change(generation, status, members)
        except (_Settled, NotFound):
            log.info("policy generation %s was settled or deleted meanwhile", generation.id)

    async def _change(self, generation: Resource, status: str, members: Document) -> None:
        """One of several that do the same work has its way. Raises _Settled for the others."""
        await self._resources.update(
            generation.tenant, GENERATION, generation.id, _changed(members), status=status,
            parent=generation.parent,
        )  # fmt: skip

    async def _enqueue(self, generation: Resource) -> None:
        payload = {
            "tenant": generation.tenant, "engine_id": generation.parent,
            "generation_id": generation.id,
        }  # fmt: skip
        await self._jobs.enqueue(GENERATION_JOB, payload, id=_job_id(generation))

    async def _gateway(self, tenant: str, arn: str) -> GovernedGateway:
        parsed = Arn.parse(arn)
        if parsed is None or not parsed.resource.startswith("gateway/"):
            raise ValidationFailed("resource.arn: expected the ARN of a gateway")
        gateway = await self._gateways.get(tenant, arn)
        if gateway is None:
            raise NotFound(f"resource.arn: there is no such gateway: {arn}")
        return gateway

    async def _check_room(self, tenant: str) -> None:
        """Each asks a model several times, at the operator's cost."""
        waiting = await self._resources.in_status(GENERATION, frozenset({GENERATING}))
        if sum(each.tenant == tenant for each in waiting) >= _UNDER_WAY_MAX:
            raise Throttled(
                f"{_UNDER_WAY_MAX} policy generations are under way; wait for one to end"
            )

    async def _sweep(self, tenant: str, engine_id: str) -> None:
        page = await self._resources.page(
            tenant, GENERATION, parent=engine_id, limit=_SWEPT_AT_ONCE
        )
        for old in page.items:
            if self._expired(old) and old.status != GENERATING:
                try:
                    await self._resources.delete(tenant, GENERATION, old.id, parent=engine_id)
                except NotFound:
                    continue  # another request swept it

    async def _assets(self, tenant: str, engine_id: str, generation_id: str) -> list[Asset]:
        generation = await self.get(tenant, engine_id, generation_id)
        if self._expired(generation):
            raise NotFound(
                f"the assets of policy generation {generation_id!r} were kept for "
                f"{self._kept.days} days, and are gone"
            )
        return msgspec.convert(generation.document.get("_assets", []), list[Asset])

    def _expired(self, generation: Resource) -> bool:
        return now() - generation.created_at > self._kept


def _changed(members: Document) -> Callable[[Resource], Document]:
    def change(current: Resource) -> Document:
        if current.status != GENERATING:
            raise _Settled
        return {**current.document, **members}

    return change


def _text(params: dict[str, Any]) -> str:
    text: str = params["content"].get("rawText") or ""
    if not any(character.isalnum() for character in text):
        raise ValidationFailed("content.rawText: expected a rule in words")
    return text


def _failed(reason: str) -> Document:
    return {"_reasons": [reason]}


def _job_id(generation: Resource) -> str:
    return f"{GENERATION_JOB}/{generation.tenant}/{generation.parent}/{generation.id}"


def _position(token: str | None, generation_id: str) -> int:
    match decode_token(token):
        case None:
            return 0
        case ["policy-assets", str(of), int(position)] if of == generation_id and position > 0:
            return position
    raise ValidationFailed("nextToken is not a token that this list returned")


def _summary(assets: Sequence[Asset], remarks: Sequence[str]) -> str:
    with_statement = sum(bool(asset.statement) for asset in assets)
    lines = [f"{with_statement} of {len(assets)} parts of the text have a policy.", *remarks]
    for asset in assets:
        types = ", ".join(dict.fromkeys(each.type or "not proven" for each in asset.findings))
        words = " ".join(asset.fragment.split())
        if len(words) > _FRAGMENT_CHARACTERS_SHOWN:
            words = f"{words[:_FRAGMENT_CHARACTERS_SHOWN]}..."
        lines.append(f'{asset.id} ("{words}"): {types}')
    return "\n".join(lines)
