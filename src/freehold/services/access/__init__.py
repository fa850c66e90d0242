"""Who may call: access keys, and the authorization step."""
