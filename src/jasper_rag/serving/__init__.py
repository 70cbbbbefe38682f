"""A fitted model as it is saved, searched, steered and explained."""
