"""What agents are called, where lists know their ids alone."""

from freehold.console.parts import part
from freehold.console.ports import Platform
from freehold.console.visit import Visit

_AGENTS_A_PAGE = 100


async def agent_names(platform: Platform, visit: Visit) -> dict[str, str]:
    """By id; of the first hundred, and none where the person may not list them."""
    found = await part(platform.post(visit, "/runtimes/", maxResults=_AGENTS_A_PAGE))
    if found.problem:
        return {}
    return {one["agentRuntimeId"]: one["agentRuntimeName"] for one in found.value["agentRuntimes"]}
