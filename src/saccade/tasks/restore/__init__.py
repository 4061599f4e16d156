"""Restoration of radar images."""
