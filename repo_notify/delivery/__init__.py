"""What is published, on its way to every process and its sockets."""
