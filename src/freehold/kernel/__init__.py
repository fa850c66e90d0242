"""Words that every part of Freehold shares. Imports nothing of ours."""
