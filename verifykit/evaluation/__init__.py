"""Error rates on a user's own pictures: reading them, measuring, reporting, calibrating."""
