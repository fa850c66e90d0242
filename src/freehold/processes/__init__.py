"""What each kind of process is put together from. Only these files and app.py plug things in."""
