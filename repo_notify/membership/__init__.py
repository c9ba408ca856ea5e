"""Who is in which room: joins, leaves, and the end of a right."""
