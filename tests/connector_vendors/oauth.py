"""The vendors' authorization servers, as far as a client of them can tell."""

import hashlib
import json
import secrets
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from connector_vendors.manners import Grant, Json, Manners, Reply, Seen, basic, form_of

_ISSUED = "1763715600000"


@dataclass
class Code:
    scopes: list[str]
    user_scopes: list[str]
    redirect_uri: str
    challenge: str


@dataclass
class OAuth:
    """One client is registered. A person who is sent to `authorize` agrees at once."""

    vendor: str
    about: Json
    manners: Manners
    url: str = ""
    client_id: str = "the-client"
    client_secret: str = "the-secret"
    account_id: str = "the-account"
    expiring: bool = True
    """Whether tokens of GitHub end and Slack's rotate; so an app there is set up."""
    registered: list[str] = field(default_factory=list)
    """The scopes that the app was registered with: Zoom's, where a request names none."""
    codes: dict[str, Code] = field(default_factory=dict)
    refreshes: dict[str, list[str]] = field(default_factory=dict)

    def takes(self, seen: Seen) -> Reply | None:
        if seen.path == self.about["authorize"] and seen.method == "GET":
            return self.authorize(seen)
        if seen.path == self.about["token"]:
            if seen.method != "POST":
                return self._refuse("invalid_request", "POST is needed")
            return self.token(seen)
        if self.vendor == "jira" and seen.path == "/oauth/token/accessible-resources":
            grant = Manners.grant(self.manners, seen)
            site = {"id": "cloud-1", "name": "site", "url": "https://site.atlassian.net",
                    "scopes": sorted((grant and grant.scopes) or ()), "avatarUrl": ""}  # fmt: skip
            return Reply(200, [site]) if grant else self.manners.unauthorized(seen)
        if self.vendor == "salesforce" and seen.path == "/.well-known/openid-configuration":
            return Reply(200, {
                "issuer": self.url, "authorization_endpoint": self.url + self.about["authorize"],
                "token_endpoint": self.url + self.about["token"],
                "userinfo_endpoint": self.url + "/services/oauth2/userinfo",
                "jwks_uri": self.url + "/id/keys", "response_types_supported": ["code", "token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
            })  # fmt: skip
        return None

    def authorize(self, seen: Seen) -> Reply:
        asked = dict(seen.query)
        problems = [] if asked.get("client_id") == self.client_id else ["client_id"]
        if asked.get("response_type") != "code" and self.vendor not in ("slack", "github"):
            problems.append("response_type")
        if "redirect_uri" not in asked:
            problems.append("redirect_uri")
        if self.vendor == "jira":
            for name, value in (("audience", "api.atlassian.com"), ("prompt", "consent")):
                if asked.get(name) != value:
                    problems.append(name)
        if problems:
            return Reply(400, {"error": "invalid_request", "error_description": str(problems)})
        code = secrets.token_hex(8)
        separator = self.about["scope_separator"]
        scopes = [one for one in asked.get("scope", "").split(separator) if one]
        users = [one for one in asked.get("user_scope", "").split(separator) if one]
        scopes = scopes or ([] if users else [*self.registered])
        unknown = self._unknown(scopes, users)
        if unknown:
            said = f"no such scopes for a bot, or a person: {unknown}"
            return Reply(400, {"error": "invalid_scope", "error_description": said})
        challenge = asked.get("code_challenge", "")
        self.codes[code] = Code(scopes, users, asked["redirect_uri"], challenge)
        back = urlencode({"code": code, "state": asked.get("state", "")})
        join = "&" if "?" in asked["redirect_uri"] else "?"
        return Reply(302, "", {"location": f"{asked['redirect_uri']}{join}{back}"})

    def _unknown(self, scopes: list[str], users: list[str]) -> list[str]:
        """Slack's apps ask for a bot's scopes and for a person's by two parameters."""
        if self.vendor != "slack":
            return []
        known: dict[str, set[str]] = {"bot": set(), "user": set()}
        for operation in self.manners.facts.operations:
            for kind, names in (operation.scopes or {}).items():
                known[kind] |= set(names or ())
        return sorted(({*scopes} - known["bot"]) | ({*users} - known["user"]))

    def token(self, seen: Seen) -> Reply:
        if seen.media not in self.about["content_types"]:
            return self._refuse("invalid_request", f"Content-Type {seen.media}")
        if self.vendor == "zendesk" and seen.media != "application/json":
            self.manners.note("oauth: the parameters are documented as JSON")
        try:
            form = json.loads(seen.body) if seen.media.endswith("json") else form_of(seen)
        except ValueError:
            return self._refuse("invalid_request", "no JSON")
        if self.vendor in ("zoom",) and not form.get("grant_type"):
            form = {**dict(seen.query), **form}  # its own examples have them in the query
        if not self._client(seen, form):
            return self._refuse("invalid_client", "invalid client credentials")
        kind = form.get("grant_type") or ("authorization_code" if self._implied() else "")
        if kind not in self.about["grants"]:
            return self._refuse("unsupported_grant_type", f"{kind} is not supported")
        if kind == "authorization_code":
            return self._exchange(form, seen)
        if kind == "refresh_token":
            return self._refresh(form, seen)
        if kind == "account_credentials" and form.get("account_id") != self.account_id:
            return self._refuse("invalid_request", "Bad account_id")
        scopes = [one for one in form.get("scope", "").split(" ") if one]
        return self._grant(scopes or self.registered or ["api"], [], seen, refresh=False)

    def _implied(self) -> bool:
        return self.vendor in ("slack", "github")

    def _client(self, seen: Seen, form: Json) -> bool:
        scheme, _, secret = seen.headers.get("authorization", "").partition(" ")
        pair = (form.get("client_id", ""), form.get("client_secret", ""))
        if scheme.lower() == "basic":
            if "basic" not in self.about["client"]:
                self.manners.note("oauth: this vendor takes client credentials in the body alone")
                return False
            pair = basic(secret)
        elif "post" not in self.about["client"]:
            self.manners.note("oauth: this vendor takes client credentials by HTTP Basic alone")
            return False
        return pair == (self.client_id, self.client_secret)

    def _exchange(self, form: Json, seen: Seen) -> Reply:
        code = self.codes.pop(form.get("code", ""), None)
        if code is None:
            return self._refuse("invalid_grant", "the code is unknown or used")
        if form.get("redirect_uri", code.redirect_uri) != code.redirect_uri:
            return self._refuse("invalid_grant", "another redirect_uri")
        if self.vendor == "asana" and "redirect_uri" not in form:
            return self._refuse("invalid_request", "redirect_uri is needed")
        if code.challenge:
            digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
            if urlsafe_b64encode(digest).rstrip(b"=").decode() != code.challenge:
                return self._refuse("invalid_grant", "the code_verifier does not fit")
        return self._grant(code.scopes, code.user_scopes, seen, refresh=True)

    def _refresh(self, form: Json, seen: Seen) -> Reply:
        token = form.get("refresh_token", "")
        if token not in self.refreshes:
            return self._refuse("invalid_grant", "the refresh token is unknown or used")
        scopes = self.refreshes[token]
        if self.vendor == "slack" and scopes[:1] == ["user"]:
            return self._rotated(self.refreshes.pop(token)[1:])
        keeps = self.vendor in ("salesforce", "asana")
        if not keeps:
            del self.refreshes[token]
        return self._grant(scopes, [], seen, refresh=not keeps)

    def _rotated(self, scopes: list[str]) -> Reply:
        """A person's token of Slack's anew: it comes at the top, not nested."""
        refresh = secrets.token_hex(12)
        self.refreshes[refresh] = ["user", *scopes]
        said = {"ok": True, "access_token": self._access(scopes, "user"), "token_type": "user",
                "scope": ",".join(scopes), "refresh_token": refresh,
                "expires_in": 43200}  # fmt: skip
        return Reply(200, said)

    def _grant(self, scopes: list[str], users: list[str], seen: Seen, *, refresh: bool) -> Reply:
        access = self._access(scopes, "bot" if self.vendor == "slack" else "user")
        joined = ("," if self.vendor in ("slack", "github") else " ").join(scopes)
        said: Json = {"access_token": access, "token_type": "Bearer", "scope": joined}
        lasts = self.vendor not in ("github", "slack") or self.expiring
        if refresh and lasts and self._offline(scopes):
            said["refresh_token"] = secrets.token_hex(12)
            self.refreshes[said["refresh_token"]] = scopes
        if self.vendor != "salesforce" and lasts:
            said["expires_in"] = {"slack": 43200, "github": 28800}.get(self.vendor, 3600)
        said |= self._more(users, seen)
        if self.vendor == "slack" and not scopes:
            for name in ("access_token", "token_type", "scope", "refresh_token", "expires_in"):
                said.pop(name, None)
        if self.vendor == "github" and "json" not in seen.headers.get("accept", ""):
            return Reply(
                200, urlencode(said), {"content-type": "application/x-www-form-urlencoded"}
            )
        return Reply(200, said)

    def _offline(self, scopes: list[str]) -> bool:
        if self.vendor == "jira":
            return "offline_access" in scopes
        if self.vendor == "salesforce":
            return bool({"refresh_token", "offline_access"} & set(scopes))
        return True

    def _access(self, scopes: list[str], kind: str) -> str:
        prefix = {"slack": "xoxb-" if kind == "bot" else "xoxp-", "github": "ghu_"}
        access = prefix.get(self.vendor, "") + secrets.token_hex(16)
        self.manners.tokens[access] = Grant(frozenset(scopes), kind)
        return access

    def _more(self, users: list[str], seen: Seen) -> Json:
        if self.vendor == "slack":
            person: Json = {"id": "U012AB3CD"}
            if users:
                person |= {"access_token": self._access(users, "user"), "token_type": "user",
                           "scope": ",".join(users)}  # fmt: skip
                if self.expiring:
                    person |= {"refresh_token": secrets.token_hex(12), "expires_in": 43200}
                    self.refreshes[person["refresh_token"]] = ["user", *users]
            return {"ok": True, "app_id": "A012AB3CD", "authed_user": person, "enterprise": None,
                    "team": {"id": "T012AB3CD", "name": "A team"}, "token_type": "bot",
                    "bot_user_id": "U0BOTUSER", "is_enterprise_install": False}  # fmt: skip
        if self.vendor == "salesforce":
            return {"instance_url": self.url, "id": f"{self.url}/id/00Dx/005x",
                    "issued_at": _ISSUED, "signature": "c2lnbmF0dXJl"}  # fmt: skip
        if self.vendor == "asana":
            return {"token_type": "bearer", "data": {"id": 4673218951, "gid": "4673218951"}}
        if self.vendor == "zoom":
            return {"token_type": "bearer", "api_url": self.url}
        return {"token_type": "bearer"} if self.vendor in ("github", "zendesk") else {}

    def _refuse(self, error: str, why: str) -> Reply:
        if self.vendor == "slack":
            words = {"invalid_grant": "invalid_code", "invalid_client": "bad_client_secret"}
            return Reply(200, {"ok": False, "error": words.get(error, error)})
        if self.vendor == "github":
            words = {"invalid_grant": "bad_verification_code",
                     "invalid_client": "incorrect_client_credentials"}  # fmt: skip
            return Reply(200, {"error": words.get(error, error), "error_description": why})
        status = 401 if error == "invalid_client" and self.vendor != "salesforce" else 400
        said: dict[str, Any] = {"error": error, "error_description": why}
        if self.vendor == "zoom":
            said = {"reason": why, "error": error}
        return Reply(status, said)
