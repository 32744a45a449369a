"""The networks: analysis and synthesis transforms, occupancy contexts, and their files."""
