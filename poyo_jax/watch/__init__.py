"""A page on which you watch a stream being decoded."""
