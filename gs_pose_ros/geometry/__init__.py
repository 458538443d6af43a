"""Rigid motions, cameras and closed-form alignment; numpy only."""
