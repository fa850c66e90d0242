"""One folder a service, each with the same file names. A service never imports a service."""
