"""Encoders, losses, samplers and the loop that train verifykit models; may import `verifykit`."""
