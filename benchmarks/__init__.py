"""Figures, as ratios against something that ran beside it; and endurance. Nothing here is a test."""
