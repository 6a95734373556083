"""The command ``jumpy-mbrl study-learning``, from a checkout."""

from jumpy_mbrl.commands.main import script

if __name__ == "__main__":
    script("study-learning")
