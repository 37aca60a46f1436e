"""The search for a recipe's values: a door of its own, so that a change of it trains no recipe anew."""
