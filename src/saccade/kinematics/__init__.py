"""Kinematics: from the tracks of moving objects to questions about their motion, and marks for the answers."""
