"""A fork of a session of the agent, which calls nothing: its one turn is run again."""

import json

from running import Agent, RunningPlatform, new_session, until
from tenant_tables.table import Table

_CAPTURE = "freehold:content-capture"
TABLE = Table(
    things=("fork",),
    marks=("fork", "forked_session"),
    paths={"forkId": "{fork}"},
    bodies={"CreateFork": {"traceId": "{forked_trace}", "spanId": "{forked_span}"}},
    filters={"ListForks": [{"traceId": "{forked_trace}"}, {"sessionId": "{forked_session}"}]},
)


def made(platform: RunningPlatform, agent: Agent) -> dict[str, str]:
    control, session = platform.client("bedrock-agentcore-control"), new_session()
    control.tag_resource(resourceArn=agent.arn, tags={_CAPTURE: "on"})

    def point() -> tuple[str, str] | None:
        begun = agent.begin({}, session)
        begun["response"].read()
        trace = begun["traceParent"].split("-")[1]
        span = until(lambda: _turn(platform, trace))
        path = f"/traces/{trace}/spans/{span}/fork-point"
        return (trace, span) if platform.own(path)["possible"] else None

    # Workers hear of the tag in moments.
    trace, span = until(point)
    control.untag_resource(resourceArn=agent.arn, tagKeys=[_CAPTURE])
    agent.stop(session)
    body = {"traceId": trace, "spanId": span}
    fork = platform.own("/forks", method="POST", body=body)["forkId"]
    until(lambda: platform.own(f"/forks/{fork}")["endedAt"])
    return {
        "fork": fork, "forked_session": session, "forked_trace": trace, "forked_span": span,
    }  # fmt: skip


def _turn(platform: RunningPlatform, trace: str) -> str:
    with platform.open("GET", f"/traces/{trace}") as answer:
        if answer.status != 200:
            return ""
        spans = json.loads(answer.read())["spans"]
    named = [span["spanId"] for span in spans if span["name"].startswith("invoke_agent")]
    return str(named[0]) if named else ""
