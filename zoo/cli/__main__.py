"""``python -m zoo.cli``."""

from zoo.cli.command import main

if __name__ == "__main__":
    main()
