"""Studies of the method, outside the runtime path: each is a command that writes its results as JSON."""
