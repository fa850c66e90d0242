"""Gateways in our own API: what targets offer and why not, approvals, action groups, health."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

import msgspec

from freehold.kernel.errors import NotFound, QuotaExceeded
from freehold.kernel.operation import Operation, Parameter, Params
from freehold.kernel.request import Request
from freehold.ports.targets import Json, Kind, Problem
from freehold.services.gateway import groups as action_groups
from freehold.services.gateway import pins
from freehold.services.gateway.approvals import Approvals, Decided
from freehold.services.gateway.exposure import Shadow, exposure
from freehold.services.gateway.model import (
    GATEWAY,
    TARGET,
    ActionGroup,
    GatewayRow,
    Pinned,
    TargetRow,
)
from freehold.services.gateway.naming import exposed
from freehold.services.gateway.store import GatewayStore

_GATEWAY = Parameter(name="gatewayId", meaning="The gateway", where="path")
_TARGET = Parameter(name="targetId", meaning="The target", where="path")
_NAME = Parameter(name="name", meaning="The action group's name", where="path")
_Place = tuple[str, Kind, str]
"""Target's id, kind, and the target's own name."""
_OF_TARGET = Parameter(name="targetId", meaning="Only of this target")
_DEFINITIONS = Parameter(
    name="definitions", kind="boolean", default=False,
    meaning="With each definition as it is in force: descriptions and schemas",
)  # fmt: skip


class ToolView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`name` is what clients say, `own` what the target does. `state`: in force, changed or new
    (both wait for approval), rejected, removed, or shadowed by another one's name. `hash` is of
    what is in force, and so is `definition`, where definitions were asked for."""

    name: str
    own: str
    kind: Kind
    target: str
    target_id: str
    state: str
    hash: str | None
    approved_by: str | None
    approved_at: datetime | None
    title: str | None
    description: str | None
    why: str | None
    definition: Json | None


class ToolList(msgspec.Struct, frozen=True):
    tools: list[ToolView]


class ProblemView(msgspec.Struct, frozen=True, kw_only=True):
    """`where` in the target's document; `skipped`: it is not offered at all."""

    where: str
    why: str
    skipped: bool


class ProblemList(msgspec.Struct, frozen=True):
    problems: list[ProblemView]


class ChangeView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`hash` is of what is to be decided on; `difference` against what is in force."""

    name: str
    own: str
    kind: Kind
    target: str
    target_id: str
    state: str
    why: str | None
    hash: str
    seen_at: datetime | None
    rejected_by: str | None
    difference: list[pins.Line]
    old: Json | None
    new: Json | None


class ChangeList(msgspec.Struct, frozen=True):
    changes: list[ChangeView]


class Decision(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Of one definition, by the target's own name for it, or of all that wait at the target.
    `hash` as the change showed it: then another change since is refused."""

    target_id: str
    name: str | None = None
    kind: Literal["tool", "resource", "resource_template", "prompt"] = "tool"
    hash: str | None = None


class ApprovalOutcome(msgspec.Struct, frozen=True):
    """The targets' own names of what was decided on."""

    names: list[str]


class GroupGiven(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`principals`: `arn:...` (an agent runtime's is all of its sessions), `key:ACCESS_KEY_ID`,
    `user:NAME`, `claim:NAME=VALUE` of a verified token, or `*`. `tools`: names that clients see.
    Both with `*` for anything."""

    principals: tuple[str, ...]
    tools: tuple[str, ...]


class GroupList(msgspec.Struct, frozen=True, rename="camel"):
    """`default`: for who is named by no group."""

    groups: list[ActionGroup]
    default: str


class TargetHealth(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`waiting` definitions wait for approval. `refreshFailure`: why it could not be asked when it
    was due; what it had goes on."""

    target_id: str
    name: str
    type: str
    status: str
    reasons: list[str]
    in_force: int
    waiting: int
    problems: int
    synchronized_at: datetime | None
    refresh_seconds: int | None
    refresh_failure: str | None


class GatewayHealth(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    gateway_id: str
    name: str
    status: str
    url: str
    tool_names: str
    targets: list[TargetHealth]


class Done(msgspec.Struct, frozen=True):
    name: str


def operations(store: GatewayStore, approvals: Approvals, *, public_url: str) -> list[Operation]:
    own = _Own(store, approvals, public_url.rstrip("/"))
    place = "/gateways/{gatewayId}"
    return [
        Operation(
            name="GetGatewayStatus", method="GET", path=f"{place}/status", act=own.status,
            summary="A gateway and the state of its targets", answer=GatewayHealth,
            parameters=(_GATEWAY,),
        ),
        Operation(
            name="ListGatewayTools", method="GET", path=f"{place}/tools", act=own.tools,
            summary="What the targets of a gateway offer, and what of it is in force",
            answer=ToolList, parameters=(_GATEWAY, _OF_TARGET, _DEFINITIONS),
        ),
        Operation(
            name="ListGatewayProblems", method="GET",
            path=f"{place}/targets/{{targetId}}/problems", act=own.problems,
            summary="What of a target could not be taken over, and why", answer=ProblemList,
            parameters=(_GATEWAY, _TARGET),
        ),
        Operation(
            name="ListGatewayChanges", method="GET", path=f"{place}/changes", act=own.changes,
            summary="Definitions that changed and are in quarantine, with the difference",
            answer=ChangeList, parameters=(_GATEWAY, _OF_TARGET),
        ),
        Operation(
            name="ApproveGatewayChanges", method="POST", path=f"{place}/changes/approve",
            act=own.approve, summary="Put a change in force, or all that wait at a target",
            body=Decision, answer=ApprovalOutcome, parameters=(_GATEWAY,),
        ),
        Operation(
            name="RejectGatewayChanges", method="POST", path=f"{place}/changes/reject",
            act=own.reject, summary="Block what changed until it is again what was approved",
            body=Decision, answer=ApprovalOutcome, parameters=(_GATEWAY,),
        ),
        *_group_operations(own, place),
    ]  # fmt: skip


def _group_operations(own: "_Own", place: str) -> list[Operation]:
    groups = f"{place}/action-groups"
    return [
        Operation(
            name="ListActionGroups", method="GET", path=groups, act=own.groups,
            summary="Which agents and users may use which tools of a gateway", answer=GroupList,
            parameters=(_GATEWAY,),
        ),
        Operation(
            name="GetActionGroup", method="GET", path=f"{groups}/{{name}}", act=own.group,
            summary="One action group", answer=ActionGroup, parameters=(_GATEWAY, _NAME),
        ),
        Operation(
            name="PutActionGroup", method="PUT", path=f"{groups}/{{name}}", act=own.put_group,
            summary="Make an action group, or replace it", body=GroupGiven, answer=ActionGroup,
            parameters=(_GATEWAY, _NAME),
        ),
        Operation(
            name="DeleteActionGroup", method="DELETE", path=f"{groups}/{{name}}",
            act=own.drop_group, summary="Delete an action group", answer=Done,
            parameters=(_GATEWAY, _NAME),
        ),
    ]  # fmt: skip


class _Own:
    def __init__(self, store: GatewayStore, approvals: Approvals, public_url: str) -> None:
        self._store, self._approvals, self._public_url = store, approvals, public_url

    async def status(self, request: Request, params: Params, _: object) -> GatewayHealth:
        row = await self._store.of(request.tenant, params["gatewayId"])
        states = await self._store.target_states(row.tenant, row.resource.id)
        shadows = _shadows(row)
        targets = []
        for target in row.targets:
            state = states.get(target.id)
            targets.append(
                TargetHealth(
                    target_id=target.id, name=target.name, type=target.kind,
                    status=target.resource.status,
                    reasons=list(target.resource.document.get("_reasons", ())),
                    in_force=len(target.definitions), waiting=len(target.quarantined),
                    problems=len(await self._problems(row, target, shadows)),
                    synchronized_at=state.synchronized_at if state else None,
                    refresh_seconds=state.refresh_seconds if state else None,
                    refresh_failure=target.refresh_failure,
                )
            )  # fmt: skip
        return GatewayHealth(
            gateway_id=row.resource.id, name=row.resource.name, status=row.resource.status,
            url=f"{self._public_url}/gateway/{row.resource.id}/mcp", tool_names=row.naming,
            targets=targets,
        )  # fmt: skip

    async def tools(self, request: Request, params: Params, _: object) -> ToolList:
        row = await self._store.of(request.tenant, params["gatewayId"])
        shadows = _shadows(row)
        tools = [
            _tool(row, target, pinned, shadows.get((target.id, pinned.kind, pinned.name)))
            for target in _targets(row, params.get("targetId"))
            for pinned in target.pinned
        ]
        if not params["definitions"]:
            tools = [msgspec.structs.replace(tool, definition=None) for tool in tools]
        return ToolList(tools)

    async def problems(self, request: Request, params: Params, _: object) -> ProblemList:
        row = await self._store.of(request.tenant, params["gatewayId"])
        (target,) = _targets(row, params["targetId"])
        return ProblemList(
            [
                ProblemView(where=problem.where, why=problem.why, skipped=problem.skipped)
                for problem in await self._problems(row, target, _shadows(row))
            ]
        )

    async def _problems(
        self, row: GatewayRow, target: TargetRow, shadows: Mapping[_Place, Shadow]
    ) -> list[Problem]:
        """Those of its last synchronisation, and who has its names just now."""
        stored = await self._store.problems(row.tenant, row.resource.id, target.id)
        return [*stored, *(s.problem for s in shadows.values() if s.target_id == target.id)]

    async def changes(self, request: Request, params: Params, _: object) -> ChangeList:
        row = await self._store.of(request.tenant, params["gatewayId"])
        return ChangeList(
            [
                _change(row, target, pinned)
                for target in _targets(row, params.get("targetId"))
                for pinned in target.pinned
                if pinned.present and pinned.pending_hash is not None
            ]
        )

    async def approve(self, request: Request, params: Params, body: Decision) -> ApprovalOutcome:
        decided = await self._approvals.approve(
            request.tenant, params["gatewayId"], _decided(body), by=request.caller.principal
        )
        return ApprovalOutcome([pinned.name for pinned in decided])

    async def reject(self, request: Request, params: Params, body: Decision) -> ApprovalOutcome:
        decided = await self._approvals.reject(
            request.tenant, params["gatewayId"], _decided(body), by=request.caller.principal
        )
        return ApprovalOutcome([pinned.name for pinned in decided])

    # -- action groups

    async def groups(self, request: Request, params: Params, _: object) -> GroupList:
        row = await self._store.of(request.tenant, params["gatewayId"])
        return GroupList(list(row.groups), row.tool_access)

    async def group(self, request: Request, params: Params, _: object) -> ActionGroup:
        row = await self._store.of(request.tenant, params["gatewayId"])
        for group in row.groups:
            if group.name == params["name"]:
                return group
        raise NotFound(f"the gateway has no action group {params['name']!r}")

    async def put_group(self, request: Request, params: Params, body: GroupGiven) -> ActionGroup:
        group = ActionGroup(
            name=params["name"], principals=body.principals, tools=body.tools
        )  # fmt: skip
        action_groups.check(group)
        row = await self._store.of(request.tenant, params["gatewayId"])
        others = {other.name for other in row.groups} - {group.name}
        if len(others) >= action_groups.GROUPS_MAX:
            raise QuotaExceeded(f"a gateway has {action_groups.GROUPS_MAX} action groups at most")
        async with self._store.changing(row.tenant, row.resource.id) as connection:
            await self._store.put_group(connection, row.tenant, row.resource.id, group)
        return group

    async def drop_group(self, request: Request, params: Params, _: object) -> Done:
        group = await self.group(request, params, _)
        gateway_id = params["gatewayId"]
        async with self._store.changing(request.tenant, gateway_id) as connection:
            await self._store.drop_group(connection, request.tenant, gateway_id, group.name)
        return Done(group.name)


_NAMED_KINDS: tuple[Kind, ...] = ("tool", "prompt")


def _targets(row: GatewayRow, target_id: str | None) -> list[TargetRow]:
    if target_id is None:
        return list(row.targets)
    found = [target for target in row.targets if target.id == target_id]
    if not found:
        raise NotFound(f"{TARGET.noun} {target_id!r} does not exist at {GATEWAY.noun} "
                       f"{row.resource.id!r}")  # fmt: skip
    return found


def _name(row: GatewayRow, target: TargetRow, pinned: Pinned) -> str:
    if pinned.kind not in _NAMED_KINDS:
        return pinned.name
    return exposed(target.name, pinned.name, row.naming)


def _shadows(row: GatewayRow) -> dict[_Place, Shadow]:
    found = [shadow for kind in _NAMED_KINDS for shadow in exposure(row, kind).shadows]
    return {(shadow.target_id, shadow.kind, shadow.name): shadow for shadow in found}


def _tool(row: GatewayRow, target: TargetRow, pinned: Pinned, shadow: Shadow | None) -> ToolView:
    document = pinned.document or pinned.pending_document or {}
    state: str = pinned.state if shadow is None else "shadowed"
    why = pinned.pending_why if shadow is None else shadow.why
    return ToolView(
        name=_name(row, target, pinned), own=pinned.name, kind=pinned.kind, target=target.name,
        target_id=target.id, state=state, hash=pinned.hash, approved_by=pinned.approved_by,
        approved_at=pinned.approved_at, title=document.get("title"),
        description=document.get("description"), why=why, definition=pinned.document,
    )  # fmt: skip


def _change(row: GatewayRow, target: TargetRow, pinned: Pinned) -> ChangeView:
    return ChangeView(
        name=_name(row, target, pinned), own=pinned.name, kind=pinned.kind, target=target.name,
        target_id=target.id, state=pinned.state, why=pinned.pending_why,
        hash=pinned.pending_hash or "", seen_at=pinned.pending_at,
        rejected_by=pinned.rejected_by, difference=pins.difference(pinned),
        old=pinned.document, new=pinned.pending_document,
    )  # fmt: skip


def _decided(body: Decision) -> Decided:
    return Decided(target_id=body.target_id, kind=body.kind, name=body.name, hash=body.hash)
