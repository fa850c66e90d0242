"""OAuth 2.0 tokens for agents in AWS's API."""

from typing import Any

from freehold.kernel import tracing
from freehold.kernel.request import Handler, Request
from freehold.ports.oauth import Asked
from freehold.services.oauth.model import Flow
from freehold.services.oauth.service import OauthService, TokenAsked

Input = dict[str, Any]


def handlers(oauth: OauthService) -> dict[str, Handler]:
    own = _Handlers(oauth)
    return {
        "bedrock-agentcore:GetResourceOauth2Token": own.token,
        "bedrock-agentcore:CompleteResourceTokenAuth": own.complete,
    }


class _Handlers:
    def __init__(self, oauth: OauthService) -> None:
        self._oauth = oauth

    async def token(self, request: Request, given: Input) -> dict[str, Any]:
        wanted = TokenAsked(
            workload_token=given["workloadIdentityToken"],
            provider=given["resourceCredentialProviderName"],
            flow=Flow(given["oauth2Flow"]),
            asked=Asked(
                scopes=tuple(given["scopes"]),
                resources=tuple(given.get("resources", ())),
                audiences=tuple(given.get("audiences", ())),
                parameters=given.get("customParameters", {}),
            ),
            session_uri=given.get("sessionUri"),
            return_url=given.get("resourceOauth2ReturnUrl"),
            force=given.get("forceAuthentication", False),
            custom_state=given.get("customState"),
        )
        tracing.describe(
            f"credential {wanted.provider}",
            {
                "freehold.credential.provider": wanted.provider,
                "freehold.credential.kind": "OAUTH",
                "freehold.credential.flow": wanted.flow.value,
            },
        )
        answer = await self._oauth.token(request, wanted)
        if answer.access_token is None:
            tracing.describe(attributes={"freehold.credential.consent_needed": True})
        if answer.access_token is not None:
            return {"accessToken": answer.access_token}
        if answer.failed:
            return {"sessionUri": answer.session_uri, "sessionStatus": "FAILED"}
        return {
            "authorizationUrl": answer.authorization_url,
            "sessionUri": answer.session_uri,
            "sessionStatus": "IN_PROGRESS",
        }

    async def complete(self, request: Request, given: Input) -> dict[str, Any]:
        user = given["userIdentifier"]
        await self._oauth.complete(
            request,
            given["sessionUri"],
            user_id=user.get("userId"),
            user_token=user.get("userToken"),
        )
        return {}
