"""What a person does to a project besides annotating: connect it, look after it, roll it back."""
