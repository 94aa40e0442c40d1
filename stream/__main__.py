"""`python -m stream` is `ebbtide`."""

from stream.cli import main

if __name__ == "__main__":
    main()
