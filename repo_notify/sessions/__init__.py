"""Who is on which socket."""
