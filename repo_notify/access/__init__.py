"""May this user enter this room? The answer is in MongoDB, cached for seconds."""
