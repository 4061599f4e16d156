"""Readers of objects and class maps in the forms of people's tools."""
