"""The command ``jumpy-mbrl plan-eval``, from a checkout."""

from jumpy_mbrl.commands.main import script

if __name__ == "__main__":
    script("plan-eval")
