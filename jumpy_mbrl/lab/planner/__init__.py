"""What the parts of planning are worth: searches compared, and their figures."""
