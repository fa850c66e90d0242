"""`freehold login`, `logout` and `whoami`: a person in place of an access key."""

import json
import os
import platform as machine
import sys
import time
from contextlib import suppress
from typing import Any

import click

from freehold.cli import connection as connections
from freehold.cli import signed_in
from freehold.cli.errors import no_platform
from freehold.cli.failure import CliError
from freehold.cli.options import platform_options
from freehold.cli.output import when
from freehold.cli.platform import Platform

ANSWER_SECONDS_MAX = 30.0
_INTERVAL_SECONDS_MAX = 60


@click.command()
@click.option(
    "--no-browser", is_flag=True, help="Open no browser here: show a code to type in elsewhere."
)
@platform_options
def login(platform: Platform, no_browser: bool) -> None:
    """Sign in as a person; commands then act as you, for some hours.

    Opens a browser here where there is one. Elsewhere it shows an address and a code, for a browser
    on any machine.
    """
    endpoint = platform.endpoint_to_sign_in
    ask = _Asking(endpoint, connections.trusted_certificate(endpoint))
    browser = None if no_browser else _browser()
    found = _with_browser(ask, browser) if browser is not None else _with_code(ask)
    path = signed_in.file_path()
    signed_in.save(
        signed_in.SignedIn(
            endpoint=endpoint,
            region=found["region"],
            account=found["account"],
            user=found["user"],
            access_key_id=found["accessKeyId"],
            secret_access_key=found["secretAccessKey"],
            session_token=found["sessionToken"],
            expiration=found["expiration"],
        ),
        path,
    )
    output = platform.output
    if output.as_json:
        shown = {name: found[name] for name in ("user", "account", "expiration")}
        output.document({"endpoint": endpoint, **shown})
    output.say(
        f"Signed in to {endpoint} as {found['user']}, account {found['account']}, "
        f"until {when(found['expiration'])}."
    )


@click.command()
@platform_options
def logout(platform: Platform) -> None:
    """Sign out: what `freehold login` got is good for nothing any more."""
    path = signed_in.file_path()
    endpoint = platform.endpoint_to_sign_in
    found = signed_in.of_endpoint(endpoint, path)
    if found is None:
        raise CliError(f"You are not signed in to {endpoint}.", code="NotSignedIn")
    ended = found.expired
    if not ended:
        from freehold.cli.own_api import OwnApi

        own = OwnApi(connections.signed_in_as(found))
        try:
            own.delete("sign-in")
            ended = True
        except CliError as error:
            # Ended on the other side already, or somebody else's platform by now.
            ended = error.code in ("ExpiredTokenException", "InvalidSignatureException")
        except OSError:
            ended = False
        except Exception as error:  # a boundary: only what urllib3 raises is meant
            if type(error).__module__.partition(".")[0] != "urllib3":
                raise
    signed_in.forget(endpoint, path)
    output = platform.output
    if output.as_json:
        output.document({"endpoint": endpoint, "user": found.user, "ended": ended})
    output.say(f"Signed out of {endpoint}.")
    if not ended:
        output.note(
            f"The platform could not be told: {found.access_key_id} ends by itself "
            f"at {when(found.expiration)}."
        )


@click.command()
@platform_options
def whoami(platform: Platform) -> None:
    """Say as whom commands act here, and with which roles."""
    found = platform.own.get("whoami")
    connection, output = platform.connection, platform.output
    if output.as_json:
        output.document({**found, "endpoint": connection.endpoint, "source": connection.source})
        return
    who = found["user"] or f"access key {connection.access_key_id}"
    output.say(f"{who}, account {found['account']}")
    output.say(f"  roles      {', '.join(found['roles']) or 'none'}")
    output.say(f"  platform   {connection.endpoint}")
    output.say(f"  from       {connection.source}")


class _Asking:
    """The two operations that need no signature."""

    def __init__(self, endpoint: str, certificate: str | None) -> None:
        import urllib3

        self._endpoint = endpoint
        self._pool = urllib3.PoolManager(
            retries=False, ca_certs=certificate or os.environ.get("AWS_CA_BUNDLE") or None
        )

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Raises CliError, whose code is the platform's."""
        import urllib3

        try:
            answer = self._pool.request(
                "POST", f"{self._endpoint}/freehold/v1/{path}", body=json.dumps(body).encode(),
                headers={"content-type": "application/json"}, redirect=False,
                timeout=ANSWER_SECONDS_MAX,
            )  # fmt: skip
        except urllib3.exceptions.HTTPError as error:
            raise no_platform(self._endpoint) from error
        try:
            document = json.loads(answer.data)
            if answer.status < 300 and isinstance(document, dict):
                return document
            said = document["error"]
            code, message = str(said["code"]), str(said["message"])
        except (ValueError, KeyError, TypeError):
            raise CliError(
                f"{self._endpoint} answered {answer.status}, and not as Freehold does.",
                code=f"Http{answer.status}",
            ) from None
        raise CliError(message, code=code)


def _with_code(ask: _Asking) -> dict[str, Any]:
    """RFC 8628."""
    started = ask.post("sign-in/device", {"description": _description()})
    click.echo(f"Open  {started['verificationUrl']}\nand type  {started['userCode']}", err=True)
    deadline = time.monotonic() + started["expiresIn"]
    interval = started["interval"]
    while time.monotonic() < deadline:
        time.sleep(interval)
        found, interval = _poll(ask, {"deviceCode": started["deviceCode"]}, interval)
        if found is not None:
            return found
    raise _in_time()


def _with_browser(ask: _Asking, browser: Any) -> dict[str, Any]:
    """RFC 8252: the answer comes to a port of ours, and PKCE proves that we asked."""
    from freehold.cli.loopback import Loopback

    with Loopback() as loopback:
        started = ask.post(
            "sign-in/device", {"description": _description(), "loopback": loopback.request()}
        )
        url = started["verificationUrlComplete"]
        click.echo(f"Opening {url}", err=True)
        with suppress(OSError):
            browser.open(url)
        click.echo(
            "Sign in there. No browser? Stop, and say: freehold login --no-browser", err=True
        )
        deadline = time.monotonic() + started["expiresIn"]
        interval = started["interval"]
        asked = {"deviceCode": started["deviceCode"]}
        while time.monotonic() < deadline:
            code = loopback.wait(interval)
            if code is not None:
                proof = {"code": code, "codeVerifier": loopback.verifier}
                return _redeemed(ask, {**asked, **proof})
            found, interval = _poll(ask, asked, interval)
            assert found is None, "without the code nothing is given"
    raise _in_time()


def _poll(ask: _Asking, asked: dict[str, Any], interval: int) -> tuple[dict[str, Any] | None, int]:
    try:
        return _redeemed(ask, asked), interval
    except CliError as error:
        if error.code == "AuthorizationPending":
            return None, interval
        if error.code == "SlowDown":
            return None, min(interval + 5, _INTERVAL_SECONDS_MAX)
        raise


def _redeemed(ask: _Asking, asked: dict[str, Any]) -> dict[str, Any]:
    try:
        return ask.post("sign-in/token", asked)
    except CliError as error:
        if error.code == "ExpiredToken":
            raise _in_time() from error
        if error.code == "AccessDeniedException":
            raise CliError("The sign-in was refused in the browser.", code="Refused") from error
        raise


def _in_time() -> CliError:
    return CliError(
        "The sign-in was not finished in time, or was used already.",
        code="SignInExpired",
        hint="Begin again with: freehold login",
    )


def _description() -> str:
    """What the page shows, so that people know their own request."""
    with suppress(OSError, KeyError):
        import getpass

        name = f"freehold on {machine.node()} ({getpass.getuser()})"
        return "".join(c for c in name if c.isprintable())[:100]
    return "freehold"


def _browser() -> Any:
    """One that shows pages in a window here; None over SSH and without a display."""
    import webbrowser

    display = sys.platform == "darwin" or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    )
    if not display or (os.environ.get("SSH_CONNECTION") and not os.environ.get("BROWSER")):
        return None
    try:
        return webbrowser.get()
    except webbrowser.Error:
        return None
