"""Training: shapes to voxel blocks, losses, the training loop."""
