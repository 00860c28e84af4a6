"""Hugging Face's vision-language models: states, attention, image grids."""
