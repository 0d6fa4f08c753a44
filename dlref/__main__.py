"""python -m dlref."""

from .cli import main

if __name__ == "__main__":
    main()
