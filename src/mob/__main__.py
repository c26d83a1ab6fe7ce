"""`python -m mob` is the `mob` command."""

from mob.cli.main import main

main()
