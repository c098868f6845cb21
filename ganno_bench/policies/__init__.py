"""Learned policies: observations, actions, the actor and its files. Plain torch, no TorchRL."""
