"""Sessions on this machine: the node process (`node`, `fleet`, `session`) and its `client`.

An API worker holds one link to the node's unix socket; descriptors of connections into sandboxes
travel beside it. The agent's bytes never pass through the node.
"""
