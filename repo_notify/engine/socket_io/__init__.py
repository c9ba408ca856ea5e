"""Socket.IO: namespaces, rooms, handlers, fan-out."""
