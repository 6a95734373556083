"""The command ``jumpy-mbrl compare-tables``, from a checkout."""

from jumpy_mbrl.commands.main import script

if __name__ == "__main__":
    script("compare-tables")
