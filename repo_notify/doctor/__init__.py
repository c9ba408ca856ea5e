"""What keeps an app's notifications from working: each finding a line with its cure."""
