"""Tests of the demo back end."""
