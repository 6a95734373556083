"""Worlds that are not the billiards table, and how well the general model does in them."""
