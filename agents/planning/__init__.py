"""Planning: optimizers, robust selection, time budgets, receding horizon and plan traces."""
