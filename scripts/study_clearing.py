"""The command ``jumpy-mbrl study-clearing``, from a checkout."""

from jumpy_mbrl.commands.main import script

if __name__ == "__main__":
    script("study-clearing")
