"""Scopes in words, for people who are asked for them; and vendors by the names they go by."""

from freehold.ports.consent import ScopeInWords

VENDORS = {
    "GoogleOauth2": "Google", "GithubOauth2": "GitHub", "SlackOauth2": "Slack",
    "SalesforceOauth2": "Salesforce", "MicrosoftOauth2": "Microsoft", "AtlassianOauth2":
    "Atlassian", "LinkedinOauth2": "LinkedIn", "XOauth2": "X", "OktaOauth2": "Okta",
    "OneLoginOauth2": "OneLogin", "PingOneOauth2": "PingOne", "FacebookOauth2": "Facebook",
    "YandexOauth2": "Yandex", "RedditOauth2": "Reddit", "ZoomOauth2": "Zoom", "TwitchOauth2":
    "Twitch", "SpotifyOauth2": "Spotify", "DropboxOauth2": "Dropbox", "NotionOauth2": "Notion",
    "HubspotOauth2": "HubSpot", "CyberArkOauth2": "CyberArk", "FusionAuthOauth2": "FusionAuth",
    "Auth0Oauth2": "Auth0", "CognitoOauth2": "Cognito",
}  # fmt: skip

_ANYWHERE = {
    "openid": "Know who you are",
    "profile": "See your name and picture",
    "email": "See your email address",
    "address": "See your postal address",
    "phone": "See your phone number",
    "offline_access": "Go on while you are away, until you take it back",
}
_GOOGLE = "https://www.googleapis.com/auth/"
_BY_VENDOR = {
    "GoogleOauth2": {
        _GOOGLE + "calendar": "See, change and delete your calendars",
        _GOOGLE + "calendar.readonly": "See your calendars",
        _GOOGLE + "calendar.events": "See and change events in your calendars",
        _GOOGLE + "drive": "See, change and delete all your files in Drive",
        _GOOGLE + "drive.readonly": "See and download all your files in Drive",
        _GOOGLE + "drive.file": "See and change the files in Drive that you open with it",
        _GOOGLE + "gmail.readonly": "Read your mail and settings in Gmail",
        _GOOGLE + "gmail.send": "Send mail as you",
        _GOOGLE + "gmail.modify": "Read, write and send mail in Gmail",
        "https://mail.google.com/": "Read, write, send and delete all your mail in Gmail",
    },
    "GithubOauth2": {
        "repo": "Read and change your repositories, private ones too",
        "public_repo": "Read and change your public repositories",
        "read:user": "See your profile",
        "user": "See and change your profile",
        "user:email": "See your email addresses",
        "read:org": "See your organizations and teams",
        "gist": "Write gists",
        "workflow": "Change workflows of GitHub Actions",
        "delete_repo": "Delete your repositories",
    },
    "MicrosoftOauth2": {
        "user.read": "See your profile",
        "mail.read": "Read your mail",
        "mail.send": "Send mail as you",
        "mail.readwrite": "Read, write and delete your mail",
        "calendars.read": "See your calendars",
        "calendars.readwrite": "See and change your calendars",
        "files.read": "See your files",
        "files.readwrite": "See, change and delete your files",
    },
    "SlackOauth2": {
        "chat:write": "Post messages",
        "channels:read": "See public channels",
        "channels:history": "Read messages in public channels",
        "search:read": "Search messages and files",
        "users:read": "See who is in the workspace",
    },
}


def in_words(vendor: str, scopes: tuple[str, ...]) -> tuple[ScopeInWords, ...]:
    known = _BY_VENDOR.get(vendor, {})
    found = []
    for scope in scopes:
        name = scope.lower().removeprefix("https://graph.microsoft.com/")
        words = known.get(scope) or known.get(name) or _ANYWHERE.get(scope, "")
        found.append(ScopeInWords(scope, words))
    return tuple(found)
