"""Engine.IO: handshakes, connections, transports, heartbeats."""
