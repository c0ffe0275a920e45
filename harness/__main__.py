"""`python -m harness` is the same as the command `faceoff`."""

from harness.commands.cli import main

if __name__ == "__main__":
    main()
