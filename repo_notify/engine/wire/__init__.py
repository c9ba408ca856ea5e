"""The wire as values: frames, packets, codecs, JSON. Holds no socket and no clock."""
