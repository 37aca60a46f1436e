"""What the rooms hand one another: file formats with schema, reader and writer; the door; our own networks."""
