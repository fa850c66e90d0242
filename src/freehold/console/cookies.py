"""The console's cookies, and the token that ties a form to a browser and its session."""

import hashlib
import hmac
import secrets
from typing import Literal

import msgspec


class Cookie(msgspec.Struct, frozen=True):
    """HttpOnly always. Under TLS it is Secure, with a prefix that keeps other hosts of the same
    domain, and unencrypted answers of this one, from setting it."""

    bare: str
    same_site: Literal["Lax", "Strict"]
    path: str = "/console"

    def name(self, secure: bool) -> str:
        if not secure:
            return self.bare
        return f"{'__Host-' if self.path == '/console' else '__Secure-'}{self.bare}"

    def set(self, value: str, *, secure: bool, seconds: int | None = None) -> str:
        """The header's value. `seconds` None: until the browser ends; 0 deletes."""
        # `__Host-` demands the path "/".
        path = "/" if secure and self.path == "/console" else self.path
        age = "" if seconds is None else f"; Max-Age={seconds}"
        return (
            f"{self.name(secure)}={value}; Path={path}{age}; HttpOnly; SameSite={self.same_site}"
            + ("; Secure" if secure else "")
        )

    def delete(self, *, secure: bool) -> str:
        return self.set("", secure=secure, seconds=0)

    def new(self) -> str:
        return secrets.token_urlsafe(24)


# Lax where people come from elsewhere with a link: a provider's callback, an agent's consent page.
SESSION = Cookie("freehold_session", "Lax")
BINDING = Cookie("freehold_sign_in", "Lax", "/console/callback")
FORM = Cookie("freehold_form", "Lax")
THEME = Cookie("freehold_theme", "Lax")


def token_of_form(key: str, session_token: str | None) -> str:
    """Whoever plants a key of their own still lacks the session's token."""
    said = b"freehold form\0" + (session_token or "").encode()
    return hmac.new(key.encode(), said, hashlib.sha256).hexdigest()


def same_token(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())
