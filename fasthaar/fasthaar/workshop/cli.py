"""The command line: `fasthaar COMMAND`. A command's module is imported when that command is asked for."""

from __future__ import annotations

from importlib import import_module

import click

import fasthaar

# By name: the module of `fasthaar.workshop` in which it is the function of the same name, and what it does.
COMMANDS: dict[str, tuple[str, str]] = {
    "samples": ("samples", "Make samples of an object, pictures without it, and scenes."),
    "train": ("train", "Train a cascade from samples of an object and pictures without it."),
    "evaluate": ("evaluate", "Hold what a cascade finds against labelled pictures."),
    "tune": ("tune", "Find the settings of a cascade that find most in the time there is."),
}


class _Commands(click.Group):
    """Lists its commands without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"fasthaar.workshop.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, what) for name, (_, what) in COMMANDS.items()])


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(fasthaar.__version__, prog_name="fasthaar")
def commands() -> None:
    """Make cascades for fasthaar and OpenCV, and judge them."""


def run(arguments: list[str] | None = None) -> int:
    """Run one command; see `fasthaar.workshop.main`."""
    try:
        code = commands.main(arguments, prog_name="fasthaar", standalone_mode=False)
    except click.Abort:
        click.echo("fasthaar: interrupted", err=True)
        return 1
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.UsageError as error:
        hint = f" (see {error.ctx.command_path} --help)" if error.ctx else ""
        click.echo(f"fasthaar: {error.format_message()}{hint}", err=True)
        return error.exit_code
    except click.ClickException as error:
        click.echo(f"fasthaar: {error.format_message()}", err=True)
        return 2
    return code if isinstance(code, int) else 0
