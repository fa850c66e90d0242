"""Where sessions run: this machine's node, or (later) Kubernetes."""
