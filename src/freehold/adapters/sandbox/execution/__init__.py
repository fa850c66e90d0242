"""Further programs in a sandbox that runs: `starter.py` starts them, `command.py` speaks to one.

What enters the sandbox is a program of its own, `starter_child.py` with `birth.py`: small, without
threads, and closed to the eyes of what runs inside.
"""
