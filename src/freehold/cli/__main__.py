"""`python -m freehold.cli`: the console script, where it is not on the path."""

from freehold.cli import main

if __name__ == "__main__":
    main()
