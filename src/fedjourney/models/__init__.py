"""Models: one plug-in per file, each a function `(signature, /, *, options) -> nn.Module`.

A model maps the tensors of `x`, in order, to logits [B, …, classes]. It keeps no buffers that training changes.
"""
