"""Signature Version 4 by botocore's own signer, without boto3's threads and connections."""

import logging
from collections.abc import Mapping

from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from freehold.ports.targets import RequestSigner

# Below this it writes whole requests into the log: session tokens, and headers of callers.
logging.getLogger("botocore.auth").setLevel(logging.INFO)


class Keys:
    """An access key of AWS's."""

    def __init__(self, access_key_id: str, secret: str, session_token: str | None = None) -> None:
        self.id, self._secret, self._session_token = access_key_id, secret, session_token

    def __repr__(self) -> str:
        return f"Keys({self.id[:4]}...)"

    def botocore(self) -> Credentials:
        return Credentials(self.id, self._secret, self._session_token)


def sigv4_signer(keys: Keys, *, service: str, region: str) -> RequestSigner:
    """Send the headers that it returns as they are: all of them are signed but those that a hop may
    change. The URL is signed as it is written."""
    # S3 alone takes a path that was escaped once, and wants the body's hash in a header.
    auth = (S3SigV4Auth if service == "s3" else SigV4Auth)(keys.botocore(), service, region)

    def sign(method: str, url: str, headers: Mapping[str, str], body: bytes) -> Mapping[str, str]:
        request = AWSRequest(method=method, url=url, headers=dict(headers), data=body)
        auth.add_auth(request)
        return dict(request.headers.items())

    return sign
