"""The game for a person: rules of a session, and the window."""
