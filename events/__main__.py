"""`python -m events` is the program `events`."""

from events.cli import main

if __name__ == "__main__":
    main()
