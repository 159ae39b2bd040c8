"""The core of AURA: an always-on visual assistant that looks once a second and speaks when there is something to say.

Importing the package costs nothing: no model, no torch, no web framework. Each module is one noun; read `chunks`,
`context`, `prompt` and `session` in that order to follow a frame from the camera to a decision.
"""
