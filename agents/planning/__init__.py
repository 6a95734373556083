"""Planning: optimizers, what they search by, the time they may take, and plans retraced."""
