"""Documents generated from rows, schemas and settings."""
