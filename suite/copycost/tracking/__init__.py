"""A project under asv: its configuration, its machine, and runs across commits."""
