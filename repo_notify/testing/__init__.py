"""What the tests of host apps and ours share."""
