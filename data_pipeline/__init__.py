"""The data engine: from videos (real or synthetic) to verified streaming samples."""
