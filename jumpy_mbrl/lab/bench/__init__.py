"""Speed: what the environments, training and prediction cost, beside their anchors."""
