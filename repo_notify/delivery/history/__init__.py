"""What was published lately, so that who lost the connection misses nothing (spec section 9)."""
