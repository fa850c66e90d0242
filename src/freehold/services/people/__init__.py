"""Tenants, the people in them, their sign-in and their temporary credentials."""
