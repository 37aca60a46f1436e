"""`python -m flows`: the same as the console command `stroma`."""

from flows.cli import main

if __name__ == "__main__":
    main()
