"""Run a grid of trainings, see how far it is, and report what it says.

python -m vgpo.studies.experiments run headline --workers 2
python -m vgpo.studies.experiments status headline
python -m vgpo.studies.experiments report headline
python -m vgpo.studies.experiments again headline look_away-shipped-dapo-seed0
"""

import argparse
import sys
from pathlib import Path

from vgpo.studies.experiments.commits import again_table
from vgpo.studies.experiments.grid import Grid, read_grid
from vgpo.studies.experiments.places import Places
from vgpo.studies.experiments.work import do_again, run, status


def again(name: str, grid: Grid, places: Places) -> str:
    """Does a cell again and says whether its numbers are those of the first time."""
    folder = do_again(name, grid, places)
    table = again_table(places.records.parent)
    said = [
        f"{row.cell}: {row.second} gives "
        f"{'the same numbers as' if row.same else 'OTHER numbers than'} {row.first}"
        for row in table.itertuples()
        if row.cell == name and row.second.startswith(folder.parent.name)
    ]
    return "\n".join(said)


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m vgpo.studies.experiments",
        description="Run a grid of trainings, see how far it is, report what it says.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, about in (
        ("run", "do all cells that are not done; a kill loses only the one at work"),
        ("status", "what is done, and at what rate"),
        ("report", "compare the arms by what is done"),
        ("again", "do a finished cell once more: does this commit give its numbers?"),
    ):
        command = commands.add_parser(name, help=about)
        command.add_argument("name", help="a file in recipes/experiments, or a path")
        command.add_argument("--output", type=Path, help="default results/experiments")
        command.add_argument("--starts", type=Path, default=Path("runs/starts"))
        if name == "again":
            command.add_argument("cell", help="a finished cell's folder, its name")
        if name == "run":
            command.add_argument("--workers", type=int, default=1)
            command.add_argument("--limit-minutes", type=float)
    options = parser.parse_args(arguments)
    try:
        grid = read_grid(options.name)
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))
    output = options.output or Path("results/experiments")
    places = Places.of(grid, output, options.starts)
    if options.command == "status":
        print(status(grid, places))
        return 0
    if options.command == "report":
        # Statistics are not needed to train.
        from vgpo.studies.experiments.report import write_report

        print(write_report(grid, places))
        return 0
    if options.command == "again":
        try:
            print(again(options.cell, grid, places))
        except ValueError as error:
            parser.error(str(error))
        return 0
    if options.workers < 1:
        parser.error("--workers must be at least 1")
    return run(grid, places, options.workers, options.limit_minutes)


if __name__ == "__main__":
    sys.exit(main())
