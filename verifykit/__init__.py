"""Is this the same person's face, or signature, as the one enrolled?"""

__version__ = "0.1.0"
