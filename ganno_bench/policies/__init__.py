"""Learned policies: what an agent sees, does and is made of, and how it is stored. Plain torch, no TorchRL."""
