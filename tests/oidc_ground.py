"""A real OpenID provider on loopback: npm's oidc-provider, run by the Node.js of the tests.

    with OidcProvider() as provider:
        provider.issuer, provider.discovery_url
        await provider.sign_in(authorization_url, user="ada")  # -> where it leads back to

Anyone signs in as any user, with any password; `root` has the role `admin`. Every client must use
PKCE. An access token is a JWT where the request names a `resource`, signed with RS256 or with the
algorithm that is the last part of its name (`https://api.example.test/es256`), and opaque
otherwise. Of its grants token exchange and JWT bearer are written here and not certified.

`python tests/npm_packages.py tests/oidc_provider` fetches it; scripts/setup.sh does.
"""

import base64
import hashlib
import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading
import time
import warnings
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import aiohttp
from joserfc import jwt
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey
from joserfc.jws import JWSRegistry
from yarl import URL

from npm_packages import NpmPackages, node_root
from oidc_visitor import Visitor

_SOURCE = Path(__file__).with_name("oidc_provider")
_PACKAGES = NpmPackages(_SOURCE)
_SERVER = "server.mjs"
_ANSWER_SECONDS_MAX = 120
ALGORITHMS = ("RS256", "ES256", "EdDSA")

TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"

CALLBACK = "http://127.0.0.1/callback"
"""Where clients are sent back to; any port of it, as RFC 8252 has it for loopback addresses."""


def needed() -> None:
    """Skips the test that calls it where the provider is not installed; in CI that is a failure."""
    _PACKAGES.needed()


def _secret_client(name: str, *grants: str, **more: Any) -> dict[str, Any]:
    return {
        "client_id": name, "client_secret": f"secret-of-{name}", "grant_types": list(grants),
        "response_types": [], "redirect_uris": [], **more,
    }  # fmt: skip


_OF_PEOPLE: dict[str, Any] = {
    "response_types": ["code"],
    "application_type": "native",
    "redirect_uris": [CALLBACK],
}


class OidcProvider:
    """A provider in a process of its own. `start` and `stop` keep its keys, port and clients.

    Clients, each with the secret `secret-of-<name>` where it has one:
    `machine` (client credentials, token exchange, JWT bearer; secret in the Authorization header),
    `machine-post` (client credentials; secret in the form),
    `machine-key` (client credentials, JWT bearer; private_key_jwt with `client_key`),
    `web` (authorization code, refresh, token exchange) and
    `public` (authorization code, refresh, device code; no secret).
    """

    def __init__(
        self,
        *,
        clients: list[dict[str, Any]] | None = None,
        redirect_uris: list[str] | None = None,
        default_resource: str | None = None,
        access_seconds: int = 300,
        refresh_seconds: int = 3600,
    ) -> None:
        """`clients`: further ones, as RFC 7591 has their metadata. `redirect_uris`: further ones of
        `web` and `public`. `default_resource`: of requests that name none."""
        self.issuer = ""
        self.keys = _new_keys()
        self.client_key = ECKey.generate_key("P-256", {"kid": "of-machine-key", "use": "sig"})
        self.log: list[str] = []
        self.requests: list[str] = []
        """`METHOD /path`, in their order."""
        people = {**_OF_PEOPLE, "redirect_uris": [CALLBACK, *(redirect_uris or [])]}
        self.clients = [
            _secret_client("machine", "client_credentials", TOKEN_EXCHANGE, JWT_BEARER),
            _secret_client(
                "machine-post", "client_credentials",
                token_endpoint_auth_method="client_secret_post",
            ),
            {
                "client_id": "machine-key",
                "grant_types": ["client_credentials", JWT_BEARER],
                "response_types": [], "redirect_uris": [],
                "token_endpoint_auth_method": "private_key_jwt",
                "token_endpoint_auth_signing_alg": "ES256",
                "jwks": {"keys": [self.client_key.as_dict(private=False)]},
            },
            _secret_client("web", "authorization_code", "refresh_token", TOKEN_EXCHANGE, **people),
            {
                "client_id": "public", "token_endpoint_auth_method": "none",
                "grant_types": ["authorization_code", "refresh_token", DEVICE_CODE], **people,
            },
            *(clients or []),
        ]  # fmt: skip
        self._default_resource = default_resource
        self._lifetimes = {"access": access_seconds, "refresh": refresh_seconds}
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.Queue[str | None] = queue.Queue()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def discovery_url(self) -> str:
        return f"{self.issuer}/.well-known/openid-configuration"

    @property
    def token_url(self) -> str:
        return f"{self.issuer}/token"

    def secret(self, client: str) -> str:
        found = next(each for each in self.clients if each["client_id"] == client)
        return str(found["client_secret"])

    def start(self) -> None:
        needed()
        root = node_root()
        assert root is not None
        assert self._process is None
        # Its imports are looked for beside it, and the source is not to have them there.
        self._directory = tempfile.TemporaryDirectory(prefix="oidc-provider-")
        directory = Path(self._directory.name)
        (directory / "node_modules").symlink_to(_PACKAGES.installed / "node_modules")
        program = directory / _SERVER
        shutil.copy(_SOURCE / _SERVER, program)
        self._process = subprocess.Popen(
            [root / "bin" / "node", program], cwd=directory, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self._answers = queue.Queue()
        threading.Thread(
            target=self._read, args=(self._process, self._answers), daemon=True
        ).start()
        self.issuer = self._serve()

    def stop(self) -> None:
        """Nobody listens any more. The next `start` is the same provider on the same port."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
        if self._directory is not None:
            self._directory.cleanup()

    def rotate_keys(self, *, keep_old: bool = False) -> None:
        """Signs with new keys from now on; sign-ins and refresh tokens stay good."""
        self.keys = [*_new_keys(), *(self.keys if keep_old else [])]
        self._serve()

    def add_client(self, client: dict[str, Any]) -> None:
        """Metadata as RFC 7591 has it."""
        self.clients.append(client)
        self._serve()

    def fail(self, path: str, status: int = 503) -> None:
        """A path answers with this status, until it is `healed`."""
        self._do(act="fail", path=path, status=status)

    def heal(self, path: str) -> None:
        self._do(act="fail", path=path, status=0)

    def delay(self, path: str, seconds: float) -> None:
        """Requests there take so much longer."""
        self._do(act="delay", path=path, seconds=seconds)

    def count(self, path: str) -> int:
        """How many requests a path had, until now."""
        if self._process is not None:
            self._do(act="settle")  # what it reports comes in order
        return Counter(each.partition(" ")[2] for each in self.requests)[path]

    def key(self, alg: str) -> Key:
        """The private key it signs with now."""
        return next(key for key in self.keys if key.alg == alg)

    def sign(self, claims: dict[str, Any], alg: str = "RS256", **header: Any) -> str:
        """A token by this provider's own key. `iss`, `iat` and `exp` are given unless said."""
        now = int(time.time())
        whole = {"iss": self.issuer, "iat": now, "exp": now + 300, **claims}
        key = self.key(alg)
        registry = JWSRegistry(algorithms=[alg], strict_check_header=False)
        with warnings.catch_warnings():  # that EdDSA has a newer name by now
            warnings.simplefilter("ignore")
            return jwt.encode(
                {"alg": alg, "kid": key.kid, "typ": "at+jwt", **header}, whole, key,
                registry=registry,
            )  # fmt: skip

    async def token(self, form: dict[str, str], client: str = "machine") -> dict[str, Any]:
        """What the token endpoint answers a client that shows its secret in the header."""
        async with aiohttp.ClientSession() as session:
            auth = {"Authorization": aiohttp.encode_basic_auth(client, self.secret(client))}
            async with session.post(self.token_url, data=form, headers=auth) as answer:
                found: dict[str, Any] = await answer.json()
                return found

    async def machine_token(self, resource: str, scope: str = "tools:read") -> str:
        """A JWT access token by client credentials."""
        answer = await self.token(
            {"grant_type": "client_credentials", "resource": resource, "scope": scope}
        )
        return str(answer["access_token"])

    async def user_tokens(
        self, user: str, *, scope: str = "openid offline_access", resource: str | None = None
    ) -> dict[str, Any]:
        """Tokens of a user who signed in at `web`: authorization code and PKCE."""
        verifier = base64.urlsafe_b64encode(os.urandom(32)).decode().rstrip("=")
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest())
        query = {
            "client_id": "web", "response_type": "code", "redirect_uri": CALLBACK, "scope": scope,
            "prompt": "consent", "state": "s", "code_challenge_method": "S256",
            "code_challenge": challenge.decode().rstrip("="),
            **({"resource": resource} if resource else {}),
        }  # fmt: skip
        request = URL(f"{self.issuer}/auth").with_query(query)
        back = parse_qs(urlsplit(await self.sign_in(str(request), user=user)).query)
        assert "code" in back, back
        return await self.token(
            {
                "grant_type": "authorization_code", "code": back["code"][0],
                "code_verifier": verifier, "redirect_uri": CALLBACK,
                **({"resource": resource} if resource else {}),
            },
            client="web",
        )  # fmt: skip

    async def sign_in(self, url: str, user: str, *, agree: bool = True) -> str:
        """Opens an authorization URL as a browser does, signs in, consents (or aborts).

        The address outside this provider that the browser is sent to; it is not opened.
        """
        async with Visitor(self.issuer) as visitor:
            return await visitor.go_through(url, user, agree=agree)

    async def approve_device(self, verification_url: str, user: str) -> None:
        """Does what a person does with the `verification_uri_complete` of a device."""
        async with Visitor(self.issuer) as visitor:
            page = await visitor.go_through(verification_url, user)
        assert "Sign-in Success" in page, page

    def _serve(self) -> str:
        port = urlsplit(self.issuer).port or 0
        return self._do(
            act="serve",
            port=port,
            jwks={"keys": [key.as_dict(private=True) for key in self.keys]},
            clients=self.clients,
            default_resource=self._default_resource,
            lifetimes=self._lifetimes,
        )

    def _do(self, **command: Any) -> str:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        answer = self._answers.get(timeout=_ANSWER_SECONDS_MAX)
        if answer is None:
            raise AssertionError("the provider ended:\n" + "\n".join(self.log))
        return answer

    def _read(self, process: subprocess.Popen[str], answers: queue.Queue[str | None]) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                try:
                    event = json.loads(line)
                except ValueError:
                    event = {"log": line.rstrip()}
                if "request" in event:
                    self.requests.append(event["request"])
                elif "ready" in event:
                    answers.put(event["ready"])
                else:
                    self.log.append(str(event.get("log", event)))
        answers.put(None)


def _new_keys() -> list[Key]:
    def named(alg: str) -> Any:
        return {"kid": f"{alg}-{os.urandom(4).hex()}", "alg": alg, "use": "sig"}

    return [
        RSAKey.generate_key(2048, named("RS256")),
        ECKey.generate_key("P-256", named("ES256")),
        OKPKey.generate_key("Ed25519", named("EdDSA")),
    ]
