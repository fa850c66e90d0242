"""What the runtime service needs from others."""

from typing import Protocol

import msgspec

from freehold.kernel.caller import Caller


class RuntimeBuilder(Protocol):
    async def build(self, tenant: str, document: dict[str, object], build_id: str) -> "Built":
        """Raises BuildRefused with a reason for people."""


class Built(msgspec.Struct, frozen=True, kw_only=True):
    """Paths relative to the build root; `note` when something was not quite as asked.

    `image` is the folder of an unpacked one, named after its digest; then there are no others.
    """

    code: str = ""
    layers: tuple[str, ...] = ()
    interpreter: str = ""
    image: str = ""
    note: str = ""


class RuntimeIdentities(Protocol):
    """The workload identities of agent runtimes, and what calls bring to agents of them."""

    def arn(self, runtime_arn: str) -> str:
        """Of the runtime's own identity."""

    async def ensure(self, tenant: str, runtime_id: str) -> None:
        """It has its identity once this returns, which goes with it. NotFound when it is gone."""

    async def act_for(
        self,
        caller: Caller,
        *,
        tenant: str,
        runtime_arn: str,
        session_id: str,
        named: str | None,
        handed: str | None,
    ) -> tuple[str | None, dict[str, str]]:
        """The user whom a call is for, and the headers that the agent gets with it.

        `named` is the request's runtimeUserId, `handed` the workload access token that it brings.
        Raises Unauthorized or AccessDenied where one of them is not to be believed.
        """


class BuildRefused(Exception):
    """The bundle or the image cannot be built. The message ends with the log's last lines."""
