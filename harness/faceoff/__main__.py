"""`python -m faceoff` is the same as the command `faceoff`."""

from faceoff.commands.cli import main

if __name__ == "__main__":
    main()
