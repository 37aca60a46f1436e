"""Turns the publishers' archives into one manifest row per image and one pixel store per source."""
