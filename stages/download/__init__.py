"""Turns a profile (drawn, given or published archives) into data/raw/<source>/: one archive or a link to it, and source.json."""
