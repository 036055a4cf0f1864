"""`python -m seccogc`: the program itself."""

from seccogc._cli import main

main()
