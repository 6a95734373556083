"""The command ``jumpy-mbrl study-pixels``, from a checkout."""

from jumpy_mbrl.commands.main import script

if __name__ == "__main__":
    script("study-pixels")
