"""An issuer of tokens on loopback that tests command: keys, documents, failures.

No JOSE library is in it, so that it also makes what no library would.
"""

import base64
import json
import threading
import time
from collections.abc import Callable
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

_HASHES: dict[str, hashes.HashAlgorithm] = {
    "256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512(),
}  # fmt: skip
_CURVES: dict[str, tuple[str, type[ec.EllipticCurve], int]] = {
    "ES256": ("P-256", ec.SECP256R1, 32),
    "ES384": ("P-384", ec.SECP384R1, 48),
    "ES512": ("P-521", ec.SECP521R1, 66),
}
ALGORITHMS = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
)  # fmt: skip


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def new_key(alg: str) -> PrivateKey:
    if alg in _CURVES:
        return ec.generate_private_key(_CURVES[alg][1]())
    if alg == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(65537, 2048)


@cache
def _first_key(alg: str) -> PrivateKey:
    """The same for all issuers of a run: RSA keys take their time."""
    return new_key(alg)


def signature(alg: str, key: PrivateKey, data: bytes) -> bytes:
    """As RFC 7518 has it, whatever the key is called elsewhere."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(data)
    digest = _HASHES[alg[2:]]
    if isinstance(key, ec.EllipticCurvePrivateKey):
        size = (key.key_size + 7) // 8
        r, s = decode_dss_signature(key.sign(data, ec.ECDSA(digest)))
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")
    if alg.startswith("PS"):
        salted = padding.PSS(padding.MGF1(digest), digest.digest_size)
        return key.sign(data, salted, digest)
    return key.sign(data, padding.PKCS1v15(), digest)


def public_jwk(key: PrivateKey) -> dict[str, str]:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return {"kty": "OKP", "crv": "Ed25519", "x": b64(key.public_key().public_bytes_raw())}
    if isinstance(key, ec.EllipticCurvePrivateKey):
        size, point = (key.key_size + 7) // 8, key.public_key().public_numbers()
        curve = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}[key.curve.name]
        x, y = (b64(number.to_bytes(size, "big")) for number in (point.x, point.y))
        return {"kty": "EC", "crv": curve, "x": x, "y": y}
    numbers = key.public_key().public_numbers()
    return {
        "kty": "RSA",
        "n": b64(numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8, "big")),
        "e": b64(numbers.e.to_bytes(3, "big")),
    }


def compact(header: bytes, payload: bytes, sign: Callable[[bytes], bytes]) -> str:
    """A token of just these bytes."""
    content = f"{b64(header)}.{b64(payload)}"
    return f"{content}.{b64(sign(content.encode()))}"


def as_json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that leaves is no news."""


class TokenIssuer:
    """Serves discovery and JWKS below `issuer`, from a thread; counts what it is asked."""

    def __init__(self) -> None:
        self.keys: dict[str, PrivateKey] = {}
        """By the kid of its JWKS, which is the algorithm's name until keys are rotated."""
        self.jwks: dict[str, Any] = {"keys": []}
        self.status = 200  # of every answer
        self.documents: dict[str, Any] = {}  # in place of its own, by path
        self.asked: list[str] = []
        self.gate = threading.Event()  # nothing is answered while it is not set
        self.gate.set()
        self._kids: dict[str, str] = {}
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self.issuer = f"http://127.0.0.1:{self._server.server_address[1]}"
        for alg in ALGORITHMS:
            self.add_key(alg, alg, _first_key(alg))

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def discovery_url(self) -> str:
        return f"{self.issuer}/.well-known/openid-configuration"

    def count(self, path: str = "/jwks") -> int:
        return self.asked.count(path)

    def add_key(self, alg: str, kid: str, /, key: PrivateKey | None = None, **more: Any) -> None:
        """Published, and from now on the one that signs with this algorithm."""
        self.keys[kid] = key or new_key(alg)
        self._kids[alg] = kid
        jwk = {"kid": kid, "alg": alg, "use": "sig", **public_jwk(self.keys[kid]), **more}
        self.jwks["keys"].append({name: value for name, value in jwk.items() if value is not None})

    def rotate(self, alg: str, kid: str) -> None:
        """The old key of the algorithm is published no more."""
        old = self._kids[alg]
        self.jwks["keys"] = [jwk for jwk in self.jwks["keys"] if jwk.get("kid") != old]
        self.add_key(alg, kid)

    def claims(self, **more: Any) -> dict[str, Any]:
        """Of an honest token. What is given as None is left out."""
        now = int(time.time())
        honest = {
            "iss": self.issuer, "sub": "ada", "aud": "https://api.example.test", "exp": now + 300,
            "iat": now, "client_id": "an-app", "scope": "tools:read", "groups": ["staff"],
        }  # fmt: skip
        return {name: value for name, value in {**honest, **more}.items() if value is not None}

    def header(self, alg: str = "RS256", /, **more: Any) -> dict[str, Any]:
        return {"alg": alg, "typ": "at+jwt", "kid": self._kids.get(alg, "RS256"), **more}

    def sign(self, alg: str, content: bytes) -> bytes:
        return signature(alg, self.keys[self._kids[alg]], content)

    def token(self, alg: str = "RS256", header: dict[str, Any] | None = None, **claims: Any) -> str:
        """Signed by the key it has for the algorithm. `header`: changes of it."""
        return compact(
            as_json(self.header(alg, **(header or {}))),
            as_json(self.claims(**claims)),
            lambda content: self.sign(alg, content),
        )

    def bare_token(self, header: dict[str, Any], claims: dict[str, Any]) -> str:
        """By RS256, with this header and these claims and no more."""
        return compact(
            as_json({"alg": "RS256", **header}),
            as_json(claims),
            lambda content: self.sign("RS256", content),
        )

    def _handler(issuer) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                issuer.asked.append(self.path)
                issuer.gate.wait(30)
                found = issuer._documents().get(self.path)
                body = found if isinstance(found, bytes) else as_json(found)
                self.send_response(404 if found is None else issuer.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def _documents(self) -> dict[str, Any]:
        own = {"issuer": self.issuer, "jwks_uri": f"{self.issuer}/jwks"}
        return {
            "/.well-known/openid-configuration": own,
            "/.well-known/oauth-authorization-server": own,
            "/jwks": self.jwks,
            **self.documents,
        }
