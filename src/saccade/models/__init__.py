"""The networks we own, one architecture a file. `saccade.registry` builds them by name."""
