"""`python -m stream` is `ebbtide`."""

from stream.cli import main

main()
