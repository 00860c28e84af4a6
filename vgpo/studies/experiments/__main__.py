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
from vgpo.studies.experiments.work import check_starts, do_again, run, status


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
    if options.command == "run":
        if options.workers < 1:
            parser.error("--workers must be at least 1")
        if options.limit_minutes is not None and not options.limit_minutes > 0:
            parser.error("--limit-minutes must be above 0")
    # What a user can mend; a fault within a training keeps its traceback.
    try:
        grid = read_grid(options.name)
        output = options.output or Path("results/experiments")
        places = Places.of(grid, output, options.starts)
        if options.command != "run":
            print(_told(options, grid, places))
            return 0
        for folder in (places.records, places.starts):
            folder.mkdir(parents=True, exist_ok=True)
        check_starts(grid, places)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    return run(grid, places, options.workers, options.limit_minutes)


def _told(options: argparse.Namespace, grid: Grid, places: Places) -> str:
    """What a command says that trains nothing new."""
    if options.command == "status":
        return status(grid, places)
    if options.command == "report":
        # Statistics are not needed to train.
        from vgpo.studies.experiments.report import write_report

        return write_report(grid, places)
    return again(options.cell, grid, places)


if __name__ == "__main__":
    sys.exit(main())
