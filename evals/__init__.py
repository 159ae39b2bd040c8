"""Evaluation: does the assistant say the right thing, does it say it in time, and is it silent otherwise."""
