"""A synthetic world with exact truth: rendered scenes of shapes and everyday objects, their events and questions.

It stands on the ground: it imports nothing else of this project, so that data, training and evaluation can all use it.
"""
