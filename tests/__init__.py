"""The tests, as a package of their own: one of their folders has the name of a package that they test."""
