"""The command ``jumpy-mbrl update-docs``, from a checkout."""

from jumpy_mbrl.commands.main import script

if __name__ == "__main__":
    script("update-docs")
