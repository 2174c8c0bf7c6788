"""Runs side by side: one table, curves, samples and a page that needs nothing but itself."""
