"""The command ``jumpy-mbrl demo``, from a checkout."""

from jumpy_mbrl.commands.main import script

if __name__ == "__main__":
    script("demo")
