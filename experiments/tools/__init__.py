"""Tools for developers: pictures of pages, and a run that is killed again and again."""
