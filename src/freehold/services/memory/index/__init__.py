"""Texts in namespaces, found by their words and their meaning."""
