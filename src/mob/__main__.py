"""`python -m mob` is the `mob` command."""

from mob.cli.entry import main

main()
