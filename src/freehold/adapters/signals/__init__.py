"""Signals of several processes of one machine, in files that they map into memory."""
