"""Voxel grids: Morton codes, octrees, voxelization."""
