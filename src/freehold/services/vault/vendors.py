"""Where the authorization servers of known vendors are, as their own documentation says.

`extra` is what a vendor wants in the authorization request for a token that lasts. Vendors marked
`isolated` have a server for each customer: the request says which.
"""

import msgspec


class Vendor(msgspec.Struct, frozen=True, kw_only=True):
    """`member` is that of oauth2ProviderConfigInput. Without `discovery_url` the three addresses
    are the metadata; with `isolated` there is neither."""

    member: str = "includedOauth2ProviderConfig"
    discovery_url: str = ""
    issuer: str = ""
    authorize_at: str = ""
    exchange_at: str = ""
    auth_method: str = "client_secret_basic"
    pkce: bool = True
    scope_separator: str = " "
    extra: dict[str, str] = {}
    machine_grant: str = "client_credentials"
    isolated: bool = False


CUSTOM = "CustomOauth2"
MICROSOFT = "MicrosoftOauth2"
MICROSOFT_DISCOVERY = (
    "https://login.microsoftonline.com/{tenant}/v2.0/.well-known/openid-configuration"
)

VENDORS: dict[str, Vendor] = {
    CUSTOM: Vendor(member="customOauth2ProviderConfig", auth_method=""),
    "GoogleOauth2": Vendor(
        member="googleOauth2ProviderConfig",
        discovery_url="https://accounts.google.com/.well-known/openid-configuration",
        auth_method="client_secret_post",
        extra={"access_type": "offline"},
    ),
    "GithubOauth2": Vendor(
        member="githubOauth2ProviderConfig",
        issuer="https://github.com/login/oauth",
        authorize_at="https://github.com/login/oauth/authorize",
        exchange_at="https://github.com/login/oauth/access_token",
        auth_method="client_secret_post",
    ),
    "SlackOauth2": Vendor(
        member="slackOauth2ProviderConfig",
        issuer="https://slack.com",
        authorize_at="https://slack.com/oauth/v2/authorize",
        exchange_at="https://slack.com/api/oauth.v2.access",
        scope_separator=",",
        pkce=False,
    ),
    "SalesforceOauth2": Vendor(
        member="salesforceOauth2ProviderConfig",
        discovery_url="https://login.salesforce.com/.well-known/openid-configuration",
        auth_method="client_secret_post",
    ),
    MICROSOFT: Vendor(
        member="microsoftOauth2ProviderConfig",
        discovery_url=MICROSOFT_DISCOVERY,
        auth_method="client_secret_post",
    ),
    "AtlassianOauth2": Vendor(
        member="atlassianOauth2ProviderConfig",
        issuer="https://auth.atlassian.com",
        authorize_at="https://auth.atlassian.com/authorize",
        exchange_at="https://auth.atlassian.com/oauth/token",
        auth_method="client_secret_post",
        extra={"audience": "api.atlassian.com", "prompt": "consent"},
        pkce=False,
    ),
    "LinkedinOauth2": Vendor(
        member="linkedinOauth2ProviderConfig",
        issuer="https://www.linkedin.com/oauth",
        authorize_at="https://www.linkedin.com/oauth/v2/authorization",
        exchange_at="https://www.linkedin.com/oauth/v2/accessToken",
        auth_method="client_secret_post",
        pkce=False,
    ),
    "XOauth2": Vendor(
        issuer="https://x.com",
        authorize_at="https://x.com/i/oauth2/authorize",
        exchange_at="https://api.x.com/2/oauth2/token",
    ),
    "FacebookOauth2": Vendor(
        issuer="https://www.facebook.com",
        authorize_at="https://www.facebook.com/dialog/oauth",
        exchange_at="https://graph.facebook.com/oauth/access_token",
        auth_method="client_secret_post",
        scope_separator=",",
    ),
    "YandexOauth2": Vendor(
        issuer="https://oauth.yandex.com",
        authorize_at="https://oauth.yandex.com/authorize",
        exchange_at="https://oauth.yandex.com/token",
    ),
    "RedditOauth2": Vendor(
        issuer="https://www.reddit.com",
        authorize_at="https://www.reddit.com/api/v1/authorize",
        exchange_at="https://www.reddit.com/api/v1/access_token",
        extra={"duration": "permanent"},
        pkce=False,
    ),
    "ZoomOauth2": Vendor(
        issuer="https://zoom.us",
        authorize_at="https://zoom.us/oauth/authorize",
        exchange_at="https://zoom.us/oauth/token",
        machine_grant="account_credentials",  # of server-to-server apps; wants account_id, too
    ),
    "TwitchOauth2": Vendor(
        issuer="https://id.twitch.tv/oauth2",
        authorize_at="https://id.twitch.tv/oauth2/authorize",
        exchange_at="https://id.twitch.tv/oauth2/token",
        auth_method="client_secret_post",
        pkce=False,
    ),
    "SpotifyOauth2": Vendor(
        issuer="https://accounts.spotify.com",
        authorize_at="https://accounts.spotify.com/authorize",
        exchange_at="https://accounts.spotify.com/api/token",
    ),
    "DropboxOauth2": Vendor(
        issuer="https://www.dropbox.com",
        authorize_at="https://www.dropbox.com/oauth2/authorize",
        exchange_at="https://api.dropboxapi.com/oauth2/token",
        extra={"token_access_type": "offline"},
    ),
    "NotionOauth2": Vendor(
        issuer="https://api.notion.com",
        authorize_at="https://api.notion.com/v1/oauth/authorize",
        exchange_at="https://api.notion.com/v1/oauth/token",
        extra={"owner": "user"},
        pkce=False,
    ),
    "HubspotOauth2": Vendor(
        issuer="https://app.hubspot.com",
        authorize_at="https://app.hubspot.com/oauth/authorize",
        exchange_at="https://api.hubapi.com/oauth/v1/token",
        auth_method="client_secret_post",
        pkce=False,
    ),
    **{
        vendor: Vendor(isolated=True, auth_method="")
        for vendor in (
            "OktaOauth2", "OneLoginOauth2", "PingOneOauth2", "CyberArkOauth2",
            "FusionAuthOauth2", "Auth0Oauth2", "CognitoOauth2",
        )
    },
}  # fmt: skip
