"""`python -m imgdetect` is the command line."""

from imgdetect.cli import main

main(prog_name="imgdetect")
