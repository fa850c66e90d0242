"""Agent runtimes: deployed versions, endpoints, and the sessions they run in."""
