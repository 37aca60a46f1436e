"""Turns a profile (drawn, given or published) into data/raw/<source>/: an archive or a link to one, and source.json."""
