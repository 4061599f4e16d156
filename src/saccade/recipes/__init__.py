"""Shipped recipes, as YAML. Read them with `saccade.train.recipe.read_recipe`."""
