"""Functions of this platform, and the way to those of AWS's. See README.md."""
