"""Turns what evaluate, index and validate said into one table, a row a recipe, and one page to read it on."""
