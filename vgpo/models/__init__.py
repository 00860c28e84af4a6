"""Any Hugging Face vision-language model: states, attention, image grids."""
