"""The three tag operations. The resource's own kind checks `freehold:*` tags."""

from collections.abc import Callable, Mapping
from typing import Any

from freehold.kernel.errors import ValidationFailed
from freehold.kernel.request import Handler, Request
from freehold.ports.resources import Resources

Params = dict[str, Any]
TagRule = Callable[[dict[str, str]], None]
"""Raises ValidationFailed for a `freehold:*` tag that the kind does not know or cannot have."""


def handlers(resources: Resources, rules: Mapping[str, TagRule]) -> dict[str, Handler]:
    """`rules` by the name of the resource kind; a kind without one has no settings."""

    async def tag(request: Request, params: Params) -> Params:
        tenant, arn, tags = request.caller.tenant, params["resourceArn"], params["tags"]
        resource = await resources.find_by_arn(tenant, arn)
        rules.get(resource.kind, _no_settings)(tags)
        await resources.tag(tenant, arn, tags)
        return {}

    async def untag(request: Request, params: Params) -> Params:
        await resources.untag(request.caller.tenant, params["resourceArn"], params["tagKeys"])
        return {}

    async def list_tags(request: Request, params: Params) -> Params:
        resource = await resources.find_by_arn(request.caller.tenant, params["resourceArn"])
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
