"""`verifykit gallery`: commands for stored galleries."""
