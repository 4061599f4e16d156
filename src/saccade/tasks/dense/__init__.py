"""What detection and segmentation share: whole pictures, pyramids, networks of a backbone and a head."""
