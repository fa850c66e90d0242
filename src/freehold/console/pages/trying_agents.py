"""An agent tried from its page: a payload sent, its answer shown as it comes, and its trace."""

import codecs
from collections.abc import AsyncGenerator
from http import HTTPStatus

import msgspec

from freehold.console.answer import Answer, Page, Stream
from freehold.console.ports import Fragments, Platform
from freehold.console.routes import Route
from freehold.console.visit import Visit
from freehold.kernel import tracing
from freehold.kernel.errors import FreeholdError, ValidationFailed
from freehold.ports.web import Unreachable, WebStream

_PATH = "/console/agents/{agentId}/try"
_SESSION_HEADER = "X-Amzn-Bedrock-AgentCore-Runtime-Session-Id"
_SHOWN_BYTES_MAX = 1 << 20


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """`trace_id` "" where it is not known; `problem` where it failed."""

    agent_id: str
    name: str
    endpoint: str
    payload: str
    answer: str = ""
    cut: bool = False
    problem: str = ""
    session_id: str = ""
    trace_id: str = ""


class TryingAgents:
    def __init__(self, platform: Platform, fragments: Fragments) -> None:
        self._platform, self._fragments = platform, fragments

    def routes(self) -> list[Route]:
        return [
            Route(method="POST", path=_PATH, act=self.whole, operation="TryAgent"),
            Route(method="POST", path=f"{_PATH}/live", act=self.live, operation="TryAgent"),
        ]

    async def whole(self, visit: Visit) -> Answer:
        """Without a script: a page, once the agent has said all."""
        tried, stream = await self._begun(visit)
        if stream is not None:
            text, cut, problem = b"", False, ""
            try:
                async for chunk in stream.chunks():
                    text += chunk
                    if cut := len(text) > _SHOWN_BYTES_MAX:
                        break
            except Unreachable as error:
                problem = str(error)
            finally:
                stream.close()
            tried = msgspec.structs.replace(
                tried, answer=text[:_SHOWN_BYTES_MAX].decode("utf-8", "replace"), cut=cut,
                problem=problem,
            )  # fmt: skip
        status = HTTPStatus.OK if stream is not None else HTTPStatus.BAD_GATEWAY
        title = f"Try {tried.name}"
        return Page(template="agent_tried.html", title=title, data=tried, status=status)

    async def live(self, visit: Visit) -> Answer:
        """For the page's script: JSON lines of the answer's text, and a foot in HTML."""
        tried, stream = await self._begun(visit)

        async def lines() -> AsyncGenerator[bytes, None]:
            said, shown = tried, 0
            if stream is not None:
                decoder = codecs.getincrementaldecoder("utf-8")("replace")
                try:
                    async for chunk in stream.chunks():
                        shown += len(chunk)
                        if shown > _SHOWN_BYTES_MAX:
                            said = msgspec.structs.replace(said, cut=True)
                            break
                        yield msgspec.json.encode({"text": decoder.decode(chunk)}) + b"\n"
                except Unreachable as error:
                    said = msgspec.structs.replace(said, problem=str(error))
                finally:
                    stream.close()
            html = self._fragments.fragment("agent_tried_foot.html", said, visit)
            yield msgspec.json.encode({"html": html}) + b"\n"

        return Stream(chunks=lines())

    async def _begun(self, visit: Visit) -> tuple[Tried, WebStream | None]:
        agent_id, payload = visit.params["agentId"], visit.form.get("payload", "")
        endpoint = visit.form.get("endpoint") or "DEFAULT"
        visit.noted["agent"] = agent_id
        try:
            msgspec.json.decode(payload.encode())
        except msgspec.DecodeError as error:
            raise ValidationFailed(f"the payload is no JSON: {error}") from None
        agent = await self._platform.get(
            visit, "/runtimes/{agentRuntimeId}/", agentRuntimeId=agent_id
        )
        tried = Tried(
            agent_id=agent_id, name=agent["agentRuntimeName"], endpoint=endpoint, payload=payload
        )
        headers = {
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
        }
        if session_id := visit.form.get("session", "").strip():
            headers[_SESSION_HEADER] = session_id
        try:
            stream = await self._platform.open(
                visit, "POST", "/runtimes/{arn}/invocations", payload.encode(), headers=headers,
                arn=agent["agentRuntimeArn"], qualifier=endpoint,
            )  # fmt: skip
        except FreeholdError as error:
            return msgspec.structs.replace(
                tried, problem=error.message, session_id=session_id
            ), None
        context = tracing.parse(stream.headers.get("traceparent", ""))
        return msgspec.structs.replace(
            tried,
            session_id=stream.headers.get(_SESSION_HEADER.lower(), session_id),
            trace_id=context.trace_id if context is not None else "",
        ), stream
