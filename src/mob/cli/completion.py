"""`mob completion`: prints the script with which a shell completes commands, options, apps, roles and pids.

The script is click's own: at each Tab the shell runs `mob`, which answers with the functions in `cli/apps.py`.
"""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

HOW = {
    "bash": 'eval "$(mob completion bash)"    # in ~/.bashrc',
    "zsh": 'eval "$(mob completion zsh)"     # in ~/.zshrc, after compinit',
    "fish": "mob completion fish | source     # in ~/.config/fish/config.fish",
}


@click.command(epilog="\b\n" + "\n".join(HOW.values()))
@click.argument("shell", type=click.Choice(list(HOW)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script with which a shell completes `mob` commands."""
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(ctx.find_root().command, {}, "mob", "_MOB_COMPLETE").source())
