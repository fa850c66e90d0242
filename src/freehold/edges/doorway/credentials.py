"""Credentials for an AWS SDK inside a session: markers that open nothing.

The SDK will not send an unsigned request, so it must have something to sign with. Who calls is
known by the connection; no signature made with these is ever looked at.
"""

import secrets
from datetime import timedelta

from freehold.kernel import ids
from freehold.kernel.clock import now
from freehold.kernel.session import DoorwaySession

MARKER_PREFIX = "FHSESSION"
_LIFETIME = timedelta(hours=1)


def marker_credentials(session: DoorwaySession) -> dict[str, str]:
    """As AWS's container credentials endpoint answers."""
    expiration = (now() + _LIFETIME).replace(microsecond=0)
    return {
        "AccessKeyId": MARKER_PREFIX + ids.random_text(11).upper(),
        "SecretAccessKey": secrets.token_urlsafe(30),
        "Token": f"freehold-session-{secrets.token_urlsafe(12)}",
        "Expiration": expiration.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "AccountId": session.tenant,
    }
