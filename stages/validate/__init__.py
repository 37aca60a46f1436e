"""Turns the manifest into validated rows, quarantined rows and a report of what was checked."""
