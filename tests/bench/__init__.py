"""Measurements: ratios against a bare baseline in the same run. ``make bench`` runs them all."""
