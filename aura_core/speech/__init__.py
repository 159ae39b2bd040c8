"""Hearing and speaking: voice activity, recognition, synthesis, sentences. Each backend is one file.

Sound is int16 mono numpy; the microphone side runs at 16 kHz. `aura_core.voice` joins the parts around a session.
"""
