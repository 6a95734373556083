"""The command ``jumpy-mbrl study-dreamer``, from a checkout."""

from jumpy_mbrl.commands.main import script

if __name__ == "__main__":
    script("study-dreamer")
