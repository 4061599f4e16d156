"""Shipped recipes, as YAML. Read them with `saccade.engine.train.recipe.read_recipe`."""
