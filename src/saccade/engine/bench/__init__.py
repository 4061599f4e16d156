"""Measure: what a network costs on paper (`cost`) and on this machine (`run`), and what the machine is."""
