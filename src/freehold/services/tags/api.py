"""The three tag operations. The resource's own kind checks `freehold:*` tags."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from freehold.kernel.errors import ValidationFailed
from freehold.kernel.request import Handler, Request
from freehold.ports.resources import Resource, Resources

Params = dict[str, Any]
TagRule = Callable[[dict[str, str]], None]
"""Raises ValidationFailed for a `freehold:*` tag that the kind does not know or cannot have."""
TagGuard = Callable[[Request, Resource, Mapping[str, str | None]], Awaitable[None]]
"""Hears what is about to change, None for a tag that goes. Raises AccessDenied for a setting that
needs more than the permission to tag."""


def handlers(
    resources: Resources,
    rules: Mapping[str, TagRule],
    *,
    changed: Callable[[str], None],
    guards: Mapping[str, TagGuard] | None = None,
) -> dict[str, Handler]:
    """`rules` and `guards` by the name of the resource kind; a kind without a rule has no settings.
    `changed` is told the tenant: who tags here and asks here sees the change at once."""
    guarding = guards or {}

    async def tag(request: Request, params: Params) -> Params:
        tenant, arn, tags = request.tenant, params["resourceArn"], params["tags"]
        resource = await resources.find_by_arn(tenant, arn)
        rules.get(resource.kind, _no_settings)(tags)
        if guard := guarding.get(resource.kind):
            await guard(request, resource, tags)
        await resources.tag(tenant, arn, tags)
        changed(tenant)
        return {}

    async def untag(request: Request, params: Params) -> Params:
        arn, keys = params["resourceArn"], params["tagKeys"]
        if guarding:
            resource = await resources.find_by_arn(request.tenant, arn)
            if guard := guarding.get(resource.kind):
                await guard(request, resource, dict.fromkeys(keys))
        await resources.untag(request.tenant, arn, keys)
        changed(request.tenant)
        return {}

    async def list_tags(request: Request, params: Params) -> Params:
        resource = await resources.find_by_arn(request.tenant, params["resourceArn"])
        return {"tags": resource.tags}

    service = "bedrock-agentcore-control"
    return {
        f"{service}:TagResource": tag,
        f"{service}:UntagResource": untag,
        f"{service}:ListTagsForResource": list_tags,
    }


def _no_settings(tags: dict[str, str]) -> None:
    for key in tags:
        if key.startswith("freehold:"):
            raise ValidationFailed(f"tag {key}: this kind of resource has no such setting")
