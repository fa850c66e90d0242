"""Where the platform is and what to sign with: flags, then the environment, then the state."""

import contextlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from freehold.cli import signed_in
from freehold.cli.failure import CliError
from freehold.cli.signed_in import SignedIn

REGION_DEFAULT = "us-east-1"
FILE_NAME = "connection.json"
ENDPOINT_DEFAULT = "http://127.0.0.1:8400"
PERSON_KEYS = "FHSA"
"""How the ids of temporary keys begin."""


@dataclass(frozen=True, kw_only=True)
class Connection:
    """`account` is None where only the environment was asked: the platform then says it.

    `source` names, for people, the place that the access key came from.
    """

    endpoint: str
    region: str
    account: str | None
    access_key_id: str
    secret_access_key: str = field(repr=False)
    source: str
    ca_certificate: str | None = None
    session_token: str | None = field(default=None, repr=False)
    """Comes with a person's temporary key alone."""


def default_state(environment: Mapping[str, str]) -> Path:
    """The state directory, when no flag names one."""
    if named := environment.get("FREEHOLD_STATE"):
        return Path(named).expanduser().absolute()
    from freehold.settings import default_state as of_this_user

    return of_this_user()


def resolve(
    *, endpoint: str | None, state: Path | None, environment: Mapping[str, str] | None = None
) -> Connection:
    """The first complete connection. Raises CliError that says how to get one.

    An endpoint alone (a flag or FREEHOLD_ENDPOINT without keys) takes the state's keys when
    the state is of that endpoint, else those of the environment.
    """
    environment = os.environ if environment is None else environment
    from_environment = _keys_of(environment)
    if endpoint is None and state is None:
        endpoint = environment.get("FREEHOLD_ENDPOINT") or None
        if endpoint and from_environment:
            found = _of_environment(endpoint, from_environment, environment)
            return _trusting(found, default_state(environment))
    directory = state or default_state(environment)
    person = None
    if state is None:  # a state directory that is named means its own key
        person = _person(endpoint, directory, environment)
    if person is not None:
        return _trusting(signed_in_as(person), directory)
    saved = _read(directory / FILE_NAME)
    if endpoint is None:
        if saved is None:
            raise CliError(
                f"No Freehold found: there is no {directory / FILE_NAME}. "
                "Start one with: freehold up",
                code="NoPlatform",
                hint="Or name one with FREEHOLD_ENDPOINT, AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY.",
            )
        return saved
    endpoint = _checked(endpoint)
    if saved is not None and (state is not None or saved.endpoint == endpoint):
        return Connection(**{**vars(saved), "endpoint": endpoint})
    if from_environment:
        return _trusting(_of_environment(endpoint, from_environment, environment), directory)
    raise CliError(
        f"No access key for {endpoint}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
        "or give --state with the state directory of that platform.",
        code="NoCredentials",
    )


def endpoint_to_sign_in(*, endpoint: str | None, state: Path | None) -> str:
    """The platform that a person signs in to: no key is needed to find it."""
    named = endpoint or (None if state else os.environ.get("FREEHOLD_ENDPOINT"))
    if named:
        return _checked(named)
    with contextlib.suppress(CliError):
        if saved := _read((state or default_state(os.environ)) / FILE_NAME):
            return saved.endpoint
    last = signed_in.of_endpoint(None, signed_in.file_path())
    return last.endpoint if last else ENDPOINT_DEFAULT


def trusted_certificate(endpoint: str) -> str | None:
    """The authority of an https endpoint, where it is of this machine's own platform."""
    nobody = Connection(
        endpoint=endpoint,
        region="",
        account=None,
        access_key_id="",
        secret_access_key="",
        source="",
    )
    return _trusting(nobody, default_state(os.environ)).ca_certificate


def signed_in_as(person: SignedIn) -> Connection:
    if person.expired:
        raise CliError(
            f"Your sign-in to {person.endpoint} as {person.user} has expired.",
            code="SignInExpired",
            hint="Sign in again with: freehold login (or forget it with: freehold logout)",
        )
    return Connection(
        endpoint=person.endpoint,
        region=person.region,
        account=person.account,
        access_key_id=person.access_key_id,
        secret_access_key=person.secret_access_key,
        session_token=person.session_token,
        source=f"the sign-in of {person.user}",
    )


def _person(
    endpoint: str | None, directory: Path, environment: Mapping[str, str]
) -> SignedIn | None:
    """Who signed in to that endpoint; else to this state's platform; without one, at last."""
    path = signed_in.file_path(environment)
    if endpoint is not None:
        return signed_in.of_endpoint(_checked(endpoint), path)
    try:
        saved = _read(directory / FILE_NAME)
    except CliError as error:
        if error.code != "NoCredentials":
            raise
        saved = None  # another user's platform: a sign-in is the way to it
    return signed_in.of_endpoint(saved.endpoint if saved else None, path)


def _keys_of(environment: Mapping[str, str]) -> tuple[str, str] | None:
    key, secret = environment.get("AWS_ACCESS_KEY_ID"), environment.get("AWS_SECRET_ACCESS_KEY")
    return (key, secret) if key and secret else None


def _of_environment(
    endpoint: str, keys: tuple[str, str], environment: Mapping[str, str]
) -> Connection:
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    # Beside a key of its own a token is somebody else's: another cloud's, most likely.
    token = environment.get("AWS_SESSION_TOKEN") if keys[0].startswith(PERSON_KEYS) else None
    return Connection(
        endpoint=_checked(endpoint),
        region=region or REGION_DEFAULT,
        account=None,
        access_key_id=keys[0],
        secret_access_key=keys[1],
        session_token=token,
        source="the environment",
    )


def _trusting(connection: Connection, directory: Path) -> Connection:
    """An https endpoint of this machine's own platform has a certificate that only its state knows.

    Whatever the environment says of certificates comes first.
    """
    if connection.endpoint.startswith("https://") and not os.environ.get("AWS_CA_BUNDLE"):
        with contextlib.suppress(CliError):
            saved = _read(directory / FILE_NAME)
            if saved is not None and saved.endpoint == connection.endpoint:
                return replace(connection, ca_certificate=saved.ca_certificate)
    return connection


def _checked(endpoint: str) -> str:
    if not endpoint.startswith(("http://", "https://")):
        raise CliError(
            f"{endpoint!r} is not an endpoint: expected http://host:port", code="BadEndpoint"
        )
    return endpoint.rstrip("/")


def _read(path: Path) -> Connection | None:
    """What `freehold up` wrote, or None. Raises CliError when it is there and cannot be used."""
    import json

    try:
        with path.open(encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            document: Any = json.load(file)
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise CliError(
                f"{path} holds a secret and may be read by others.",
                code="UnsafeConnectionFile",
                hint=f"Close it with: chmod 600 {path}",
            )
        if not isinstance(document, dict) or not all(isinstance(v, str) for v in document.values()):
            raise ValueError("expected texts by name")
        return Connection(
            endpoint=_checked(document["endpoint"]),
            region=document["region"],
            account=document["account"],
            access_key_id=document["access_key_id"],
            secret_access_key=document["secret_access_key"],
            source=str(path),
            ca_certificate=document.get("ca_certificate"),
        )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise CliError(
            f"{path} is not yours to read: the platform runs as another user.",
            code="NoCredentials",
            hint="Run this as that user, or set FREEHOLD_ENDPOINT, AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY.",
        ) from error
    except (KeyError, ValueError) as error:
        raise CliError(
            f"{path} is not a connection file ({error}).", code="BadConnectionFile"
        ) from error


def listens(endpoint: str) -> bool:
    """Whether anything takes connections there, asked for a moment only."""
    import socket
    from urllib.parse import urlsplit

    parts = urlsplit(endpoint)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        with socket.create_connection((parts.hostname or "", port), timeout=0.5):
            return True
    except OSError:
        return False
