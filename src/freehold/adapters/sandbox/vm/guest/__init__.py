"""The half that runs inside a virtual machine, on any Python from 3.10 on: standard library only.

`agent` is the machine's first process, as root there. Nothing of it is trusted by the host.
"""
