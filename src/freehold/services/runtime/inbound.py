"""Who may enter a session of a runtime with a token."""

from typing import TYPE_CHECKING

from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.errors import AccessDenied
from freehold.services.runtime.options import BEARER_SHELLS

if TYPE_CHECKING:
    from freehold.services.runtime.model import Deployment


def check_entering(caller: Caller, deployment: "Deployment") -> None:
    """Raises AccessDenied. Who only talks to an agent does not look into its sandbox, where its
    environment and what it may reach are."""
    if caller.kind is CallerKind.OAUTH_USER and not deployment.bearer_shells:
        raise AccessDenied(
            "users with a bearer token run no commands and shells here; the tag "
            f"freehold:{BEARER_SHELLS}=true on the agent runtime lets them"
        )


def user_entering(caller: Caller) -> str | None:
    """Whom a command or a shell is for; None: an operator, who may look at anybody's session."""
    return caller.user if caller.kind is CallerKind.OAUTH_USER else None
