"""World models of bodies that move straight between events, and the true simulator."""
