"""One project here: its folder on disk, its settings, its secrets, and the workplace made of them."""
