"""The protocol as data. Pure: no socket, no Flask, no clock, no database."""
