"""Sandboxes that start in milliseconds: forked off a sandboxed process that has imported already.

How and why: docs/decisions/0010-templates.md. `forker.py` is the trusted program, `inside.py` the
one that runs in the sandbox, and the rest is the driver's side. The forker imports from this
package and runs without site-packages: it, and what it imports, keep to the standard library.
"""
