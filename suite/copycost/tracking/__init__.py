"""Project tracking with asv: its configuration, its machine record, and runs across commits."""
