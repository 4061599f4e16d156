"""Answers of vision-language models."""
