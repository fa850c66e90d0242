"""The platform as a command reaches it: AWS's clients, S3's, and our own API.

boto3 is imported when the first client is asked for: `freehold --help` must not wait for it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from freehold.cli import connection as connections
from freehold.cli.connection import Connection
from freehold.cli.errors import explained
from freehold.cli.output import Output

if TYPE_CHECKING:
    from types_boto3_bedrock_agentcore.client import BedrockAgentCoreClient
    from types_boto3_bedrock_agentcore_control.client import BedrockAgentCoreControlClient

    from freehold.cli.own_api import OwnApi

CONNECT_SECONDS_MAX = 5
# A little more than the platform's own limits (15 minutes to begin, an hour to stream).
ANSWER_SECONDS_MAX = 3700
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class Platform:
    """Nothing is looked up or connected before it is used."""

    def __init__(self, output: Output, *, endpoint: str | None, state: Path | None) -> None:
        self.output = output
        self._endpoint = endpoint
        self._state = state

    @cached_property
    def connection(self) -> Connection:
        return connections.resolve(endpoint=self._endpoint, state=self._state)

    @property
    def endpoint_to_sign_in(self) -> str:
        """Needs no key, as `connection` does."""
        return connections.endpoint_to_sign_in(endpoint=self._endpoint, state=self._state)

    @cached_property
    def account(self) -> str:
        return self.connection.account or self.own.get("health")["account"]

    @cached_property
    def control(self) -> "BedrockAgentCoreControlClient":
        client: BedrockAgentCoreControlClient = self._client("bedrock-agentcore-control")
        return client

    @cached_property
    def data(self) -> "BedrockAgentCoreClient":
        """Never retries: an agent that was asked twice may act twice."""
        client: BedrockAgentCoreClient = self._client(
            "bedrock-agentcore",
            read_timeout=ANSWER_SECONDS_MAX,
            retries={"total_max_attempts": 1},
        )
        return client

    def data_with(self, token: str) -> Any:
        """The data plane with a bearer token in place of signatures."""
        from botocore import UNSIGNED

        client = self._client(
            "bedrock-agentcore",
            signature_version=UNSIGNED,
            read_timeout=ANSWER_SECONDS_MAX,
            retries={"total_max_attempts": 1},
        )

        def authorize(params: dict[str, Any], **_: Any) -> None:
            params["headers"]["Authorization"] = f"Bearer {token}"

        client.meta.events.register("before-call.bedrock-agentcore", authorize)
        return client

    @cached_property
    def objects(self) -> Any:
        """S3. The body is hashed for the signature, so a second checksum adds nothing."""
        return self._client(
            "s3",
            path="/_s3",
            s3={"addressing_style": "path"},
            signature_version="s3v4",
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )

    @cached_property
    def own(self) -> "OwnApi":
        from freehold.cli.own_api import OwnApi

        return OwnApi(self.connection)

    @cached_property
    def _session(self) -> Any:
        import boto3
        import botocore.session

        # The user's own AWS profile and files say nothing about this platform.
        nothing = (None, None, None, None)
        core = botocore.session.Session(
            session_vars={
                "profile": nothing,
                "config_file": (None, None, "", None),
                "credentials_file": (None, None, "", None),
            }
        )
        return boto3.session.Session(
            botocore_session=core,
            aws_access_key_id=self.connection.access_key_id,
            aws_secret_access_key=self.connection.secret_access_key,
            aws_session_token=self.connection.session_token,
            region_name=self.connection.region,
        )

    def _client(self, service: str, *, path: str = "", **config: Any) -> Any:
        from botocore.config import Config

        config.setdefault("connect_timeout", CONNECT_SECONDS_MAX)
        config.setdefault("retries", {"total_max_attempts": 3, "mode": "standard"})
        if urlsplit(self.connection.endpoint).hostname in _LOOPBACK:
            # A proxy of the environment cannot reach what listens on this machine.
            config["proxies"] = {}
        return self._session.client(
            service,
            endpoint_url=self.connection.endpoint + path,
            config=Config(**config),
            verify=self.connection.ca_certificate,
        )

    @contextmanager
    def explaining(self) -> Iterator[None]:
        """Errors of boto3 and urllib3 leave as CliError."""
        try:
            yield
        except Exception as error:  # a boundary: what is not theirs is raised again as it is
            if "connection" not in vars(self):
                raise
            meant = explained(error, self.connection)
            if meant is None:
                raise
            raise meant from error
