"""How success grows with what is learned from: points, curves and their figure."""
