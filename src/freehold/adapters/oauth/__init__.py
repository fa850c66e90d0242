"""OAuth 2.0, the client's side: plain forms over `ports/web`. See docs/decisions/0021-oauth.md."""
