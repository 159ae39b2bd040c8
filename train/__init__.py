"""Training: the Silent-Speech Balanced Loss, the trainer, and the recipes for `aura-nano` and the 8B model."""
