"""What travels between the parts: values without behaviour."""
