"""The command line. It speaks only the public API: AWS's, S3's and our own under /freehold/v1."""


def main() -> None:
    """The console script `freehold`."""
    from freehold.cli.root import root

    root.main(prog_name="freehold")
