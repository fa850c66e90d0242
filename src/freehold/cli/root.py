"""The command group, and the one place where a failure becomes words and an exit status."""

import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from freehold import __version__
from freehold.cli.agents import destroy, list_agents, status
from freehold.cli.audit import audit
from freehold.cli.costs import costs
from freehold.cli.create import create
from freehold.cli.deploy import deploy
from freehold.cli.dev import dev
from freehold.cli.doctor import doctor
from freehold.cli.embeddings import embeddings
from freehold.cli.endpoints import endpoints
from freehold.cli.env import env
from freehold.cli.errors import print_error
from freehold.cli.exec import execute
from freehold.cli.failure import CliError
from freehold.cli.functions import function
from freehold.cli.gateway.group import gateway
from freehold.cli.invoke import invoke
from freehold.cli.keys import keys
from freehold.cli.login import login, logout, whoami
from freehold.cli.logs import logs
from freehold.cli.memory.group import memory
from freehold.cli.people import people
from freehold.cli.policy.group import policy
from freehold.cli.sessions import sessions, stop
from freehold.cli.shell import shell
from freehold.cli.tenants import tenants
from freehold.cli.tls import tls
from freehold.cli.trace.group import trace
from freehold.cli.up import up
from freehold.cli.vault import vault
from freehold.kernel.errors import FreeholdError

EXIT_INTERRUPTED = 130


class Root(click.Group):
    """Lists its commands in the order in which people meet them, not by the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def main(  # type: ignore[override]  # we end the process ourselves, always
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> None:
        words = list(sys.argv[1:] if args is None else args)
        extra["standalone_mode"] = False
        try:
            result = super().main(words, prog_name, **extra)
        except (click.Abort, KeyboardInterrupt):
            sys.exit(EXIT_INTERRUPTED)
        except click.UsageError as error:
            if "--json" not in words:
                error.show()
                sys.exit(error.exit_code)
            failure = CliError(error.format_message(), code="Usage", exit_code=error.exit_code)
        except CliError as error:
            failure = error
        except click.ClickException as error:
            failure = CliError(error.format_message())
        except FreeholdError as error:
            failure = CliError(error.message, code=error.code)
        except Exception as error:  # the boundary: people get words, never a traceback
            if os.environ.get("FREEHOLD_DEBUG"):
                raise
            failure = _unforeseen(error)
        else:
            sys.exit(result if isinstance(result, int) else 0)
        print_error(failure, as_json="--json" in words)
        sys.exit(failure.exit_code)


def _unforeseen(error: Exception) -> CliError:
    if isinstance(error, OSError):
        return CliError(str(error), code="OSError")
    return CliError(
        f"Something unforeseen went wrong: {type(error).__name__}: {error}",
        code="Unforeseen",
        hint="FREEHOLD_DEBUG=1 shows where.",
    )


@click.group(
    cls=Root,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="freehold")
def root() -> None:
    """Freehold: the agent platform that you own."""


for _command in (
    up,
    doctor,
    env,
    login,
    logout,
    whoami,
    create,
    dev,
    deploy,
    invoke,
    list_agents,
    status,
    logs,
    sessions,
    stop,
    shell,
    execute,
    endpoints,
    destroy,
    gateway,
    policy,
    memory,
    trace,
    function,
    costs,
    audit,
    keys,
    people,
    tenants,
    vault,
    embeddings,
    tls,
):
    root.add_command(_command)
