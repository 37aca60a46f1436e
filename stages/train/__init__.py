"""Turns one recipe of params.yaml, an index and the pixel stores into models/<recipe>/ and its training curves."""
