"""Turns one trained recipe into predictions, an operating point locked on val, scores and plots of the test part."""
