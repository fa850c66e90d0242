"""`freehold policy`: rules outside the agent, proven before they apply."""
