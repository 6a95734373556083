"""Commands of ``jumpy-mbrl``."""
