"""The command ``jumpy-mbrl score-shipped``, from a checkout."""

from jumpy_mbrl.commands.main import script

if __name__ == "__main__":
    script("score-shipped")
