"""`python -m lab.cli`: the command line where no `lab` script is on the path."""

from lab.cli import main

main(prog_name="lab")
