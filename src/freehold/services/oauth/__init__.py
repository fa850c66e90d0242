"""OAuth 2.0 on behalf of agents: flows, grants that users gave, consent, a single refresh."""
