"""`ace options`: the options table."""

from __future__ import annotations

import argparse
from typing import List

from rich.table import Table
from rich.text import Text

from .. import Option, options
from ..console import new_table, print_out


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "options", help="list the options, their defaults and what they accept", allow_abbrev=False
    )
    parser.add_argument("--markdown", action="store_true", help="as the Markdown table that the README shows")
    parser.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> int:
    if arguments.markdown:
        print(markdown())
    else:
        print_out(as_table(options()))
    return 0


def as_table(options: List[Option]) -> Table:
    table = new_table("", ["option", "environment", "default", "values", "what it does"], numbers=False,
                      texts=("values", "what it does"), spare=("environment", "default"))  # fmt: skip
    for option in options:
        # The command line takes it as --name; brackets would be markup.
        table.add_row(*map(Text, (option.name, option.environment, option.default, option.values, option.description)))
    return table


def markdown() -> str:
    """The table of the README, without a line break at its end."""
    lines = ["| option | default | values | what it does |", "| --- | --- | --- | --- |"]
    for option in options():
        cells = (
            "`%s` (`%s`)" % (option.name, option.environment),
            "`%s`" % option.default,
            option.values,
            option.description,
        )
        # A bar would end the cell.
        lines.append("| %s |" % " | ".join(cell.replace("|", "\\|") for cell in cells))
    return "\n".join(lines)
