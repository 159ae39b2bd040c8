"""Engines: given a context, stream the next assistant message, or silence.

`base` is the contract. `local` runs a Qwen3-VL checkpoint in this process, of three parts that can be read alone:
`network` (the model's forward pass), `prefix` (what is kept between two prompts), `utterance` (tokens to text).
`openai` asks a chat server, which `vllm` says how to start; `frames` is how pictures get there. `checkpoint` is what
both must know of a checkpoint.
"""
